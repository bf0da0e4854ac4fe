// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `--vfio`: devices of the host's, as settings of the board.

use super::given::Given;
use super::list;
use crate::board::pci::HostAddress;
use crate::board::settings::Port;
use crate::exit::Error;

/// A device, and the port that it is to be on, if that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    address: HostAddress,
    port: Option<Port>,
}

/// Parses `ADDRESS[,port=PORT]`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<HandedOver, String> {
    let (address, rest) = match text.split_once(',') {
        Some((address, rest)) => (address, Some(rest)),
        None => (text, None),
    };
    let port = match rest {
        None => None,
        Some("port=hp") => Some(Port::Hp),
        Some("port=hpc") => Some(Port::Hpc),
        Some(other) => {
            return Err(format!(
                "`{}` behind the address is neither port=hp nor port=hpc",
                other.escape_debug()
            ));
        }
    };
    Ok(HandedOver {
        address: address.parse()?,
        port,
    })
}

/// What they come to.
///
/// # Errors
/// [`Error::Option`] if they are to be on several ports: the board has one bridge.
pub fn give(given: &mut Given, all: &[HandedOver]) -> Result<(), Error> {
    let mut ports: Vec<Port> = all.iter().filter_map(|device| device.port).collect();
    ports.dedup();
    if ports.len() > 1 {
        return Err(Error::Option {
            option: "--vfio".into(),
            why: "all devices are behind one bridge, and so on one port: name the same for each"
                .into(),
        });
    }
    if all.is_empty() {
        return Ok(());
    }
    // A scenario that has a bridge keeps its port, unless one is named.
    if let Some(port) = ports.first() {
        given.flag("--vfio", format!("board.pci.port={}", port.name()));
    }
    let addresses: Vec<String> = all
        .iter()
        .map(|device| device.address.to_string())
        .collect();
    given.flag("--vfio", format!("board.pci.devices={}", list(&addresses)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[&str]) -> Result<Vec<String>, Error> {
        let all: Vec<_> = options.iter().map(|text| parse(text).unwrap()).collect();
        let mut given = Given::default();
        give(&mut given, &all)?;
        Ok(given.settings())
    }

    #[test]
    fn devices_are_settings() {
        assert_eq!(settings(&[]).unwrap(), [""; 0]);
        assert_eq!(
            settings(&["0000:00:03.0,port=hpc", "0000:00:04.0"]).unwrap(),
            [
                "board.pci.port=hpc",
                "board.pci.devices=[\"0000:00:03.0\", \"0000:00:04.0\"]"
            ]
        );
        assert!(settings(&["0000:00:03.0,port=hp", "0000:00:04.0,port=hpc"]).is_err());
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for wrong in [
            "",
            "00:03.0",
            "0000:00:03.0,",
            "0000:00:03.0,port=acp",
            "0000:00:03.0,hp",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
