// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use super::*;

#[test]
fn a_set_holds_what_was_put_into_it() {
    for kind in Kind::ALL {
        let set: Kinds = [kind].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [kind]);
    }
    assert!(Kinds::NONE.is_empty() && Kinds::NONE.iter().next().is_none());
    let all: Kinds = Kind::ALL.into_iter().collect();
    assert_eq!(all.iter().count(), Kind::ALL.len());
}
