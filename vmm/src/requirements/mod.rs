// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the guest's kernel must have built in for a run: the drivers of the devices that the run drives,
//! as their models on the board name them, and the one table of what else it takes.

pub mod config;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use memchr::memmem;
use staleline_kernels::{Kconfig, Setting};
use staleline_protocol::plan::{DataPath, Exporter};

use crate::board::Board;
use crate::board::models::{MODELS, OneOf};
use crate::board::port::COMPATIBLE;
use crate::engine::EngineKind;
use crate::engine::description::Told;
use crate::scenario::Scenario;

/// Options of the kernel that runs with these properties need, and what for.
struct Row {
    /// Whether a run needs them.
    when: fn(&Scenario) -> bool,
    what_for: &'static str,
    options: &'static [OneOf],
}

/// What a run needs apart from drivers of the board's devices.
static ROWS: &[Row] = &[
    Row {
        when: |_| true,
        what_for: "the console",
        options: &[
            &["CONFIG_PRINTK"],
            &["CONFIG_TTY"],
            &["CONFIG_SERIAL_AMBA_PL011"],
            &["CONFIG_SERIAL_AMBA_PL011_CONSOLE"],
        ],
    },
    Row {
        when: |_| true,
        what_for: "the agent, which is the guest's /init",
        options: &[&["CONFIG_BINFMT_ELF"], &["CONFIG_SYSFS"]],
    },
    Row {
        when: |s| s.disk.is_none(),
        what_for: "the initramfs",
        options: &[&["CONFIG_BLK_DEV_INITRD"]],
    },
    Row {
        when: |s| s.disk.is_some(),
        what_for: "the root file system on the disk",
        options: &[
            &["CONFIG_BLOCK"],
            &["CONFIG_EXT2_FS", "CONFIG_EXT4_USE_FOR_EXT2"],
        ],
    },
    Row {
        when: |s| s.board.pci.is_some(),
        what_for: "the PCI host bridge",
        options: &[&["CONFIG_PCI"], &["CONFIG_PCI_HOST_GENERIC"]],
    },
    Row {
        when: works,
        what_for: "what the agent looks up in /proc",
        options: &[&["CONFIG_PROC_FS"]],
    },
    Row {
        when: |s| s.transfer.is_some() || s.dmatest.is_some() || s.raw_disk.is_some() || execs(s),
        what_for: "device nodes",
        options: &[&["CONFIG_DEVTMPFS"]],
    },
    Row {
        when: |s| s.transfer.is_some(),
        what_for: "the fences of transfers",
        options: &[&["CONFIG_SYNC_FILE"]],
    },
    Row {
        when: |s| s.transfer.is_some(),
        what_for: "where the pages of DMABUFs are",
        options: &[&["CONFIG_PROC_PAGE_MONITOR"]],
    },
    Row {
        when: |s| s.transfer.is_some(),
        what_for: "DMABUFs in pages of 4 KiB",
        options: &[&["CONFIG_ARM64_4K_PAGES"]],
    },
    Row {
        when: |s| exports(s, Exporter::Udmabuf),
        what_for: "the exporter udmabuf",
        options: &[&["CONFIG_UDMABUF"], &["CONFIG_MEMFD_CREATE"]],
    },
    Row {
        when: |s| exports(s, Exporter::System),
        what_for: "the exporter system",
        options: &[&["CONFIG_DMABUF_HEAPS"], &["CONFIG_DMABUF_HEAPS_SYSTEM"]],
    },
    Row {
        when: |s| exports(s, Exporter::Cma),
        what_for: "the exporter cma",
        options: &[
            &["CONFIG_DMABUF_HEAPS"],
            &["CONFIG_DMABUF_HEAPS_CMA"],
            &["CONFIG_DMA_CMA"],
        ],
    },
    Row {
        when: |s| exports(s, Exporter::Iio),
        what_for: "the exporter iio, as in the stack exporter-syncs",
        options: &[&["CONFIG_DMABUF_HEAPS"], &["CONFIG_IIO_BUFFER_DMA_HEAP"]],
    },
    Row {
        when: |s| drives(s, IIO),
        what_for: "IIO buffers of DMABUFs",
        options: &[&["CONFIG_IIO"], &["CONFIG_IIO_BUFFER"]],
    },
    Row {
        when: |s| s.transfer.is_some() && drives(s, USB),
        what_for: "a USB gadget with FunctionFS",
        options: &[
            &["CONFIG_USB_GADGET"],
            &["CONFIG_USB_CONFIGFS"],
            &["CONFIG_USB_CONFIGFS_F_FS"],
            &["CONFIG_CONFIGFS_FS"],
        ],
    },
    Row {
        when: |s| s.dmatest.is_some(),
        what_for: "dmatest",
        options: &[&["CONFIG_DMATEST"]],
    },
    Row {
        when: execs,
        what_for: "the file systems of a program's guest",
        options: &[&["CONFIG_TMPFS"]],
    },
    Row {
        when: loads,
        what_for: "modules",
        options: &[&["CONFIG_MODULES"]],
    },
    Row {
        when: |s| !Board::new(&s.board).masters_reach_all(),
        what_for: "masters that do not reach all RAM",
        options: &[
            &["CONFIG_ZONE_DMA", "CONFIG_ZONE_DMA32"],
            &["CONFIG_SWIOTLB"],
        ],
    },
];

/// Options that our usual configuration lacks, and the one of ours that has them
/// (`guest-kernel/config`).
static ELSEWHERE: &[(&str, &str)] = &[
    ("CONFIG_MODULES", "userland"),
    ("CONFIG_ZONE_DMA", "zones"),
    ("CONFIG_ARM_SMMU_V3", "iommu"),
    ("CONFIG_ARM64_COHERENCY_PORT", "instrumented"),
    ("CONFIG_PCI_HOST_GENERIC", "pci"),
];

/// The configuration of ours that has one of them.
fn elsewhere(options: OneOf) -> Option<&'static str> {
    let has = |option: &&str| ELSEWHERE.iter().find(|(known, _)| known == option);
    options.iter().find_map(has).map(|(_, config)| *config)
}

/// What a kernel of ours with these configurations on top lacks for a run, a line each, in words.
pub fn lacks_of_ours(configs: &[String], scenario: &Scenario) -> Vec<String> {
    let all = requirements(scenario).into_iter();
    let lacking = all.filter(|r| {
        let config = elsewhere(r.options);
        config.is_some_and(|config| !configs.iter().any(|c| c == config))
    });
    lacking.map(|r| told(r.options, "", &r.what_for)).collect()
}

/// What a kernel lacks, in words, by which an engine is told of what it cannot see.
pub fn lacks_port(config: &Kconfig, engine: EngineKind) -> Option<String> {
    let told_by = engine.told_by()?;
    match config.setting(told_by.option) {
        Setting::BuiltIn => None,
        _ => Some(port(engine, told_by)),
    }
}

/// As [`lacks_port`], of a kernel of ours with these configurations on top.
pub fn lacks_port_of_ours(configs: &[&str], engine: EngineKind) -> Option<String> {
    let told_by = engine.told_by()?;
    let there = configs.contains(&told_by.config);
    (!there).then(|| port(engine, told_by))
}

/// As [`lacks_port`], of an image whose configuration is nowhere to be found.
///
/// # Errors
/// If the image cannot be read.
pub fn lacks_port_by_image(image: &Path, engine: EngineKind) -> io::Result<Option<String>> {
    let Some(told_by) = engine.told_by() else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let most = crate::boot::MOST_BYTES;
    File::open(image)?.take(most).read_to_end(&mut bytes)?;
    let there = memmem::find(&bytes, COMPATIBLE.as_bytes()).is_some();
    Ok((!there).then(|| port(engine, told_by)))
}

/// For people, with the way out.
fn port(engine: EngineKind, Told { config, option }: Told) -> String {
    format!(
        "{option}=y, by which the guest tells the {engine} engine of its cache maintenance: it comes with the \
         patch of the stack `{config}`. Build your tree with it, `staleline kernel build --src TREE --config \
         {config} --name NAME` (--stack for patches of your own), and use --kernel NAME; of ours, every \
         STACK has it with this engine"
    )
}

/// A line for people.
fn told(options: OneOf, is: &str, what_for: &str) -> String {
    let asked: Vec<_> = options.iter().map(|option| format!("{option}=y")).collect();
    let ours = elsewhere(options).map_or(String::new(), |config| {
        format!("; of ours, STACK+{config} has it")
    });
    format!("{}{is}, for {what_for}{ours}", asked.join(" or "))
}

/// Devices of the board that make up one end of a path.
const ADC: &[&str] = &["axi-dmac-rx", "axi-adc", "axi-quad-spi"];
const DAC: &[&str] = &["axi-dmac-tx", "axi-dac", "axi-quad-spi"];
const USB: &[&str] = &["dwc3"];
const IIO: &[&str] = &["axi-adc", "axi-dac"];
const GDMA: &[&str] = &["gdma"];
const DISK: &[&str] = &["virtio-blk"];
const SMMU: &[&str] = &["smmu"];

/// The devices that a run drives, whatever else its board has. What a program of the user's is up to,
/// nobody knows but for what is asked for on its behalf.
fn driven(scenario: &Scenario) -> Vec<&'static [&'static str]> {
    let mut driven = match scenario.transfer.as_ref().map(|t| t.path) {
        None => vec![],
        Some(DataPath::IioCapture) => vec![ADC],
        Some(DataPath::IioPlayback) => vec![DAC],
        Some(DataPath::UsbLoopback) => vec![USB],
        Some(DataPath::IioToUsb) => vec![ADC, USB],
        Some(DataPath::UsbToIio) => vec![USB, DAC],
    };
    let guest = &scenario.guest;
    driven.extend(guest.gadget.as_ref().map(|_| USB));
    driven.extend(guest.iio.filter(|iio| iio.rx > 0).map(|_| ADC));
    driven.extend(guest.iio.filter(|iio| iio.tx > 0).map(|_| DAC));
    driven.extend(scenario.dmatest.as_ref().map(|_| GDMA));
    driven.extend(scenario.disk.as_ref().map(|_| DISK));
    driven.extend(scenario.board.smmu.as_ref().map(|_| SMMU));
    driven
}

fn drives(scenario: &Scenario, any: &[&str]) -> bool {
    let driven = driven(scenario);
    driven
        .iter()
        .flat_map(|d| d.iter())
        .any(|d| any.contains(d))
}

fn exports(scenario: &Scenario, exporter: Exporter) -> bool {
    let transfer = scenario.transfer.as_ref();
    transfer.is_some_and(|t| t.exporter == exporter)
}

fn execs(scenario: &Scenario) -> bool {
    scenario.guest.has_program()
}

fn loads(scenario: &Scenario) -> bool {
    !scenario.guest.modules.is_empty()
}

fn works(scenario: &Scenario) -> bool {
    let Scenario {
        transfer,
        dmatest,
        disk,
        raw_disk,
        ..
    } = scenario;
    let moves = transfer.is_some() || dmatest.is_some() || disk.is_some() || raw_disk.is_some();
    moves || execs(scenario)
}

/// Something that a run needs of its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// One of them must be built in.
    options: OneOf,
    what_for: String,
}

fn requirements(scenario: &Scenario) -> Vec<Requirement> {
    let rows = ROWS.iter().filter(|row| (row.when)(scenario));
    let mut all: Vec<Requirement> = Vec::new();
    for row in rows {
        all.extend(row.options.iter().map(|options| Requirement {
            options,
            what_for: row.what_for.to_owned(),
        }));
    }
    for name in driven(scenario).into_iter().flatten() {
        let models = MODELS.iter().filter(|model| model.name() == *name);
        for options in models.flat_map(|model| model.options()) {
            all.push(Requirement {
                options,
                what_for: format!("the driver of {name}"),
            });
        }
    }
    all
}

/// What a kernel with this configuration lacks for a run, a line each, in words.
pub fn lacks(config: &Kconfig, scenario: &Scenario) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for Requirement { options, what_for } in requirements(scenario) {
        // Which of them the user's modules are, only the user knows.
        let there = |option: &&str| match config.setting(option) {
            Setting::BuiltIn => true,
            Setting::Module => loads(scenario),
            _ => false,
        };
        if options.iter().any(there) {
            continue;
        }
        let module = options
            .iter()
            .find(|o| config.setting(o) == Setting::Module);
        let is = match module {
            Some(_) => " (it is a module, and the run loads none)",
            None => "",
        };
        let line = self::told(options, is, &what_for);
        // Devices may share a driver.
        let option = |line: &str| line.split(['=', ' ']).next().map(str::to_owned);
        if !told.iter().any(|known| option(known) == option(&line)) {
            told.push(line);
        }
    }
    let cpus = scenario.board.cpus;
    if let Setting::Value(most) = config.setting("CONFIG_NR_CPUS")
        && most.parse().is_ok_and(|most: u8| most < cpus)
    {
        told.push(format!(
            "CONFIG_NR_CPUS={cpus} (it is {most}), for board.cpus"
        ));
    }
    if cpus > 1 && config.setting("CONFIG_SMP") == Setting::Off {
        told.push("CONFIG_SMP=y, for board.cpus".into());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{builtin, set};

    /// What base is built with, as far as it is not what Kconfig makes of it by itself.
    fn base() -> Kconfig {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../guest-kernel/config/staleline.config"
        );
        Kconfig::parse(&std::fs::read_to_string(file).unwrap())
    }

    /// All built-in scenarios, with each exporter, and one with a program.
    fn scenarios() -> Vec<Scenario> {
        let mut all = Vec::new();
        for name in builtin::names() {
            let scenario = Scenario::load(name).unwrap();
            // PCI takes a configuration of its own.
            if scenario.board.pci.is_some() {
                continue;
            }
            if scenario.transfer.is_some() {
                for exporter in Exporter::MAINLINE {
                    let setting = format!("exporter={}", exporter.name());
                    all.push(set::apply(&scenario, &[setting]).unwrap());
                }
            }
            all.push(scenario);
        }
        let mut exec = Scenario::load("exec").unwrap();
        exec.guest.exec = vec!["program".into()];
        all.push(exec);
        all
    }

    #[test]
    fn base_has_all_that_any_run_needs() {
        let mut used = Vec::new();
        for scenario in scenarios() {
            let lacks = lacks(&base(), &scenario);
            assert!(lacks.is_empty(), "{}: {lacks:?}", scenario.name);
            used.extend(requirements(&scenario).into_iter().map(|r| r.options));
        }
        for scenario in [
            with_modules(),
            with_high_ram(),
            with_smmu(),
            with_heap_of_iio(),
            Scenario::load("nvme").unwrap(),
        ] {
            let more = requirements(&scenario).into_iter();
            used.extend(more.map(|r| r.options));
        }
        // No row and no model's option is left that nothing here has asked for.
        let rows = ROWS.iter().flat_map(|row| row.options);
        let models = MODELS.iter().flat_map(|model| model.options());
        for options in rows.chain(models) {
            assert!(used.contains(options), "{options:?}");
        }
    }

    fn with_heap_of_iio() -> Scenario {
        let scenario = Scenario::load("iio-to-usb").unwrap();
        set::apply(&scenario, &["exporter=iio".to_owned()]).unwrap()
    }

    #[test]
    fn a_heap_that_no_kernel_has_as_it_is_is_told_with_its_stack() {
        let told = lacks(&base(), &with_heap_of_iio());
        assert_eq!(told.len(), 1, "{told:?}");
        for part in ["CONFIG_IIO_BUFFER_DMA_HEAP", "exporter-syncs"] {
            assert!(told[0].contains(part), "{told:?}");
        }
    }

    #[test]
    fn each_option_taken_away_is_told() {
        for scenario in scenarios() {
            for Requirement { options, .. } in requirements(&scenario) {
                let mut config = base();
                options.iter().for_each(|option| config.remove(option));
                let told = lacks(&config, &scenario);
                let starts = format!("{}=y", options[0]);
                assert_eq!(told.len(), 1, "{}: {told:?}", scenario.name);
                assert!(told[0].starts_with(&starts), "{told:?}");
            }
        }
    }

    #[test]
    fn an_engine_that_is_told_needs_a_kernel_that_tells() {
        let [exact, told] = EngineKind::ALL;
        let has = Kconfig::parse("CONFIG_ARM64_COHERENCY_PORT=y\n");
        for config in [base(), has.clone()] {
            assert_eq!(lacks_port(&config, exact), None);
        }
        assert_eq!(lacks_port(&has, told), None);
        let lacks = lacks_port(&base(), told).unwrap();
        for part in [
            "CONFIG_ARM64_COHERENCY_PORT=y",
            "the kvm engine",
            "kernel build --src TREE --config instrumented --name NAME",
        ] {
            assert!(lacks.contains(part), "{part}: {lacks}");
        }
        assert_eq!(lacks_port_of_ours(&["lockdep", "instrumented"], told), None);
        assert_eq!(lacks_port_of_ours(&[], told).as_ref(), Some(&lacks));
        assert_eq!(lacks_port_of_ours(&[], exact), None);

        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("Image");
        std::fs::write(&image, "ARMd staleline,coherency-port\0").unwrap();
        assert_eq!(lacks_port_by_image(&image, told).unwrap(), None);
        std::fs::write(&image, "ARMd").unwrap();
        assert_eq!(lacks_port_by_image(&image, told).unwrap(), Some(lacks));
        assert_eq!(lacks_port_by_image(&image, exact).unwrap(), None);
    }

    #[test]
    fn a_module_is_told_as_such() {
        let text = "CONFIG_AXI_DMAC=m\nCONFIG_NR_CPUS=2\n# CONFIG_SMP is not set\n";
        let scenario = Scenario::load("iio-capture").unwrap();
        let scenario = set::apply(&scenario, &["board.cpus=4".into()]).unwrap();
        let told = lacks(&Kconfig::parse(text), &scenario);
        let module = "CONFIG_AXI_DMAC=y (it is a module, and the run loads none), for the driver of \
                      axi-dmac-rx";
        assert!(told.iter().any(|line| line == module), "{told:#?}");
        let cpus = "CONFIG_NR_CPUS=4 (it is 2), for board.cpus";
        assert!(told.iter().any(|line| line == cpus), "{told:#?}");
        assert!(told.iter().any(|line| line.starts_with("CONFIG_SMP=y")));
    }

    fn with_modules() -> Scenario {
        let mut scenario = Scenario::load("iio-capture").unwrap();
        scenario.guest.modules = vec!["own.ko".into()];
        scenario
    }

    #[test]
    fn a_run_with_modules_needs_a_kernel_that_loads_them() {
        let told = lacks(&base(), &with_modules());
        assert_eq!(
            told,
            ["CONFIG_MODULES=y, for modules; of ours, STACK+userland has it"]
        );
        let config = Kconfig::parse("CONFIG_MODULES=y\nCONFIG_AD9467=m\n");
        let told = lacks(&config, &with_modules());
        assert!(
            !told.iter().any(|line| line.contains("AD9467")),
            "{told:#?}"
        );
    }

    fn with_high_ram() -> Scenario {
        let scenario = Scenario::load("iio-capture").unwrap();
        set::apply(&scenario, &["board.ram-high-mib=64".into()]).unwrap()
    }

    fn with_smmu() -> Scenario {
        let scenario = Scenario::load("iio-capture").unwrap();
        set::apply(&scenario, &["board.smmu.port=hp".into()]).unwrap()
    }

    #[test]
    fn a_configuration_of_ours_has_what_the_usual_one_lacks() {
        for (option, config) in ELSEWHERE {
            let root = env!("CARGO_MANIFEST_DIR");
            let file = format!("{root}/../guest-kernel/config/{config}.config");
            let config = Kconfig::parse(&std::fs::read_to_string(file).unwrap());
            assert_eq!(config.setting(option), Setting::BuiltIn, "{option}");
            assert_ne!(base().setting(option), Setting::BuiltIn, "{option}");
        }
        let told = lacks_of_ours(&[], &with_high_ram());
        let [told] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(told.ends_with("STACK+zones has it"), "{told}");
        let zones = ["lockdep".into(), "zones".into()];
        assert_eq!(lacks_of_ours(&zones, &with_high_ram()), [""; 0]);
        let usual = Scenario::load("iio-capture").unwrap();
        assert_eq!(lacks_of_ours(&[], &usual), [""; 0]);
    }

    #[test]
    fn what_a_program_is_given_to_drive_is_needed() {
        let mut scenario = Scenario::load("exec").unwrap();
        scenario.guest.exec = vec!["program".into()];
        let needs = |scenario: &Scenario, option: &str| {
            let all = requirements(scenario);
            all.iter().any(|r| r.options.contains(&option))
        };
        assert!(!needs(&scenario, "CONFIG_USB_DWC3"));
        scenario.guest.gadget = Some(Default::default());
        assert!(needs(&scenario, "CONFIG_USB_DWC3") && !needs(&scenario, "CONFIG_AXI_DMAC"));
    }

    #[test]
    fn only_what_the_run_drives_is_needed() {
        let mut config = base();
        config.remove("CONFIG_USB_DWC3");
        config.remove("CONFIG_XILINX_ZYNQMP_DMA");
        let lacks_of = |name: &str| lacks(&config, &Scenario::load(name).unwrap());
        assert!(lacks_of("iio-capture").is_empty() && lacks_of("boot").is_empty());
        assert_eq!(lacks_of("iio-to-usb").len(), 1);
    }

    #[test]
    fn driven_devices_are_on_the_board() {
        for name in [ADC, DAC, USB, IIO, GDMA, DISK, SMMU].concat() {
            assert!(MODELS.iter().any(|model| model.name() == name), "{name}");
        }
    }
}
