// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which parts a transfer can have.

use super::parts::{Parts, WORD_BYTES};
use super::{PlanError, Transfer};

impl Parts {
    pub(super) fn check(&self, t: &Transfer, page: u64) -> Result<(), PlanError> {
        let range = |ok: bool, field, value, rule| match ok {
            true => Ok(()),
            false => Err(PlanError::Range { field, value, rule }),
        };
        for (field, bytes) in [
            ("offset_bytes", self.offset_bytes),
            ("stride_bytes", self.stride_bytes.unwrap_or(page)),
        ] {
            let whole = bytes.is_multiple_of(page) && (bytes > 0 || field == "offset_bytes");
            range(whole, field, bytes, "must be a multiple of the page size")?;
        }
        let mut order = self.order.clone();
        order.sort_unstable();
        range(
            order.is_empty() || order.iter().copied().eq(0..t.buffers),
            "order",
            order.len() as u64,
            "must name each buffer once",
        )?;
        let Some(trailer) = &self.trailer else {
            return Ok(());
        };
        let words = trailer.bytes > 0 && trailer.bytes.is_multiple_of(WORD_BYTES);
        range(
            words,
            "trailer.bytes",
            trailer.bytes,
            "must be a multiple of 8, and not 0",
        )?;
        range(
            trailer.align.is_power_of_two() && trailer.align.is_multiple_of(WORD_BYTES),
            "trailer.align",
            trailer.align,
            "must be a power of two, at least 8",
        )?;
        let longest = t.frame_bytes.max(t.last_frame_bytes.unwrap_or(0));
        let end = longest
            .checked_next_multiple_of(trailer.align)
            .and_then(|place| place.checked_add(trailer.bytes));
        range(
            end.is_some_and(|end| end <= t.buffer_bytes),
            "trailer.bytes",
            trailer.bytes,
            "must fit behind the longest frame",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parts::trailer;
    use crate::plan::{DataPath, Exporter};

    fn transfer(parts: Parts) -> Transfer {
        Transfer {
            path: DataPath::IioCapture,
            exporter: Exporter::Udmabuf,
            buffers: 3,
            frames: 5,
            buffer_bytes: 8192,
            frame_bytes: 4000,
            last_frame_bytes: Some(8),
            cpu_sync: true,
            resume: false,
            usb_first: false,
            read_detached: false,
            parts,
        }
    }

    #[test]
    fn parts_are_checked() {
        let stride = |bytes| Parts {
            stride_bytes: Some(bytes),
            ..Parts::default()
        };
        let order = |order: &[u32]| Parts {
            order: order.to_vec(),
            ..Parts::default()
        };
        let offset = |offset_bytes| Parts {
            offset_bytes,
            ..Parts::default()
        };
        let fine = [
            Parts::default(),
            offset(4096),
            stride(4096),
            order(&[1, 2, 0]),
            trailer(96, 8),
            trailer(4096, 4096),
        ];
        for parts in fine {
            assert_eq!(transfer(parts.clone()).check(4096), Ok(()), "{parts:?}");
        }
        let wrong = [
            (offset(8), "offset_bytes"),
            (stride(0), "stride_bytes"),
            (stride(4097), "stride_bytes"),
            (order(&[0, 1]), "order"),
            (order(&[0, 1, 1]), "order"),
            (order(&[0, 1, 3]), "order"),
            (trailer(0, 8), "trailer.bytes"),
            (trailer(12, 8), "trailer.bytes"),
            (trailer(8, 4), "trailer.align"),
            (trailer(8, 24), "trailer.align"),
            (trailer(8, 1 << 63), "trailer.bytes"),
            (trailer(8192, 8), "trailer.bytes"),
        ];
        for (parts, name) in wrong {
            let found = transfer(parts.clone()).check(4096);
            assert!(
                matches!(found, Err(PlanError::Range { field, .. }) if field == name),
                "{parts:?}: {found:?}"
            );
        }
    }
}
