// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Measures the whole tool beside named peers, and lays out installations. The scripts in `scripts/` are its fronts.

mod bench;
mod dist;
mod kvm;
mod measure;
mod model;
mod plain;
mod snapshots;
mod throughput;
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A limit is not kept.
const BEYOND: u8 = 1;
/// Something could not be measured.
const TROUBLE: u8 = 3;

/// Measurements of the whole tool, and installations of it
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What exactness costs: runs beside plain boots, DMA beside memcpy, and how a matrix uses cores
    Bench {
        /// Pairs of a run and a plain boot
        #[arg(default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..100))]
        pairs: u32,
        /// QEMU's contrib cache plugin (libcache.so), to measure it too
        #[arg(long, value_name = "FILE")]
        cache_plugin: Option<PathBuf>,
        /// Leave out the model alone and the matrix
        #[arg(long)]
        runs_only: bool,
    },
    /// Bytes per second from the ADC through the kernel to the USB host
    Throughput {
        /// Pairs of a long run and a short one
        #[arg(default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..100))]
        pairs: u32,
    },
    /// Memory and results of 1 GiB in as many frames as a scenario may have
    Memory,
    /// Where the time of a long run goes, by perf(1)
    Profile,
    /// The KVM engine's VMM beside kvmtool, in an emulated arm64 host: boots, and accesses to registers
    Kvm {
        /// kvmtool for arm64, linked statically (its `lkvm-static`)
        kvmtool: PathBuf,
        /// How often each is run
        #[arg(default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..100))]
        rounds: u32,
    },
    /// Runs that go on from a snapshot beside runs that boot, on the KVM engine, in turn, by one VMM
    Snapshots {
        /// Pairs of a run that boots and one that goes on
        #[arg(default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..1000))]
        pairs: u32,
        /// The scenario
        #[arg(long, default_value = "iio-to-usb")]
        scenario: String,
    },
    /// An installation, as it stands below a prefix such as /usr
    Dist {
        /// The prefix, which must not be there yet; the default is for --deb
        prefix: Option<PathBuf>,
        /// Pack one as a Debian package (needs cargo-deb)
        #[arg(long, conflicts_with = "prefix", required_unless_present = "prefix")]
        deb: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench {
            pairs,
            cache_plugin,
            runs_only,
        } => bench::run(pairs, cache_plugin.as_deref(), runs_only),
        Task::Throughput { pairs } => throughput::rate(pairs),
        Task::Memory => throughput::memory(),
        Task::Kvm { kvmtool, rounds } => kvm::run(&kvmtool, rounds),
        Task::Snapshots { pairs, scenario } => snapshots::run(&scenario, pairs),
        Task::Dist { prefix, deb } => dist::run(prefix.as_deref(), deb),
        Task::Profile => throughput::profile(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BEYOND),
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::from(TROUBLE)
        }
    }
}
