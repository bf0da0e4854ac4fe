// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Sites, written short: there are as many as the guest has executed loads and stores. A list of
//! numbers: of each site, how far its ID and its address are from those of the one before.

use serde::{Deserialize, Deserializer, Serializer};
use staleline_devices::cpu::SiteId;

use super::Sites;

pub fn serialize<S: Serializer>(sites: &Sites, to: S) -> Result<S::Ok, S::Error> {
    let mut last = (0u32, 0u64);
    to.collect_seq(sites.iter().flat_map(|(id, va)| {
        let steps = (id.0.wrapping_sub(last.0), va.wrapping_sub(last.1));
        last = (id.0, *va);
        [i64::from(steps.0), steps.1.cast_signed()]
    }))
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sites, D::Error> {
    let numbers = Vec::<i64>::deserialize(from)?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(serde::de::Error::custom("a site has no address"));
    }
    let mut last = (0u32, 0u64);
    pairs
        .iter()
        .map(|[id, va]| {
            let id = u32::try_from(*id).map_err(serde::de::Error::custom)?;
            last = (last.0.wrapping_add(id), last.1.wrapping_add_signed(*va));
            Ok((SiteId(last.0), last.1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Held(#[serde(with = "super")] Sites);

    #[test]
    fn sites_come_back() {
        let far = [
            (SiteId(1), 0xffff_8000_8001_0000),
            (SiteId(2), 0xffff_8000_8000_fffc),
            (SiteId(7), 0),
            (SiteId(SiteId::USER | 8), u64::MAX),
            (SiteId(u32::MAX), 0x40_0000),
        ];
        for sites in [Sites::new(), far.into_iter().collect()] {
            let held = Held(sites);
            let text = serde_json::to_string(&held).unwrap();
            assert_eq!(serde_json::from_str::<Held>(&text).unwrap(), held);
        }
    }

    #[test]
    fn what_is_no_list_of_sites_is_an_error() {
        for text in ["[1]", "[1, 2, 3]", "[-1, 0]", "[4294967296, 0]", "{}"] {
            assert!(serde_json::from_str::<Held>(text).is_err(), "{text}");
        }
    }
}
