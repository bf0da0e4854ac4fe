// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Something for each of some pages of RAM, by number.
//!
//! RAM has many pages, and a guest touches few. So the table of all is of numbers that are zero: memory of the host's
//! that is not touched either, neither when it is made nor when it goes.

/// What there is of pages.
#[derive(Debug)]
pub(super) struct PerPage<T> {
    /// Of each page, where in `places` its own is, counted from 1; or 0.
    numbers: Box<[u32]>,
    places: Vec<Option<Box<T>>>,
}

impl<T> PerPage<T> {
    /// Nothing, of so many pages, of which there are less than 2^32.
    pub fn new(pages: usize) -> Self {
        PerPage {
            numbers: bytemuck::zeroed_slice_box(pages),
            places: Vec::new(),
        }
    }

    /// How many pages there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What there is of a page.
    #[inline(always)]
    pub fn get(&self, page: usize) -> Option<&T> {
        let number = *self.numbers.get(page)?;
        // Of 0, it is past the end.
        let place = self.places.get(number.wrapping_sub(1) as usize)?;
        place.as_deref()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self, page: usize) -> Option<&mut T> {
        let number = *self.numbers.get(page)?;
        let place = self.places.get_mut(number.wrapping_sub(1) as usize)?;
        place.as_deref_mut()
    }

    /// What there is of a page, which has to be one of those; or else what `make` makes.
    #[inline(always)]
    pub fn or_insert_with(&mut self, page: usize, make: impl FnOnce() -> Box<T>) -> &mut T {
        let number = number(&mut self.numbers[page], &mut self.places);
        self.places[number].get_or_insert_with(make)
    }

    /// Keeps that of a page; outside, nothing.
    pub fn put(&mut self, page: usize, what: Box<T>) {
        if let Some(place) = self.numbers.get_mut(page) {
            let number = number(place, &mut self.places);
            self.places[number] = Some(what);
        }
    }

    /// Takes what there is of a page.
    pub fn take(&mut self, page: usize) -> Option<Box<T>> {
        let number = *self.numbers.get(page)?;
        self.places.get_mut(number.wrapping_sub(1) as usize)?.take()
    }
}

/// Where a page's place is, which is made if it has none.
#[inline(always)]
fn number<T>(number: &mut u32, places: &mut Vec<Option<Box<T>>>) -> usize {
    if *number == 0 {
        add(number, places);
    }
    *number as usize - 1
}

#[cold]
#[inline(never)]
fn add<T>(number: &mut u32, places: &mut Vec<Option<Box<T>>>) {
    places.push(None);
    // There are no more than pages.
    *number = places.len() as u32;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Put(usize, u8),
        Take(usize),
        OrInsert(usize, u8),
        Change(usize, u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        let page = 0..6usize;
        prop_oneof![
            (page.clone(), any::<u8>()).prop_map(|(p, v)| Op::Put(p, v)),
            page.clone().prop_map(Op::Take),
            (page.clone(), any::<u8>()).prop_map(|(p, v)| Op::OrInsert(p, v)),
            (page, any::<u8>()).prop_map(|(p, v)| Op::Change(p, v)),
        ]
    }

    proptest! {
        /// Of 4 pages, so that some are outside.
        #[test]
        fn it_is_a_map(ops in prop::collection::vec(op(), 0..40)) {
            let mut pages = PerPage::new(4);
            let mut map = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Put(page, value) => {
                        pages.put(page, Box::new(value));
                        if page < 4 {
                            map.insert(page, value);
                        }
                    }
                    Op::Take(page) => {
                        prop_assert_eq!(pages.take(page).as_deref().copied(), map.remove(&page));
                    }
                    Op::OrInsert(page, value) => {
                        let page = page % 4;
                        let there = *pages.or_insert_with(page, || Box::new(value));
                        prop_assert_eq!(there, *map.entry(page).or_insert(value));
                    }
                    Op::Change(page, value) => {
                        prop_assert_eq!(
                            pages.get_mut(page).map(|place| *place = value),
                            map.get_mut(&page).map(|place| *place = value)
                        );
                    }
                }
                for page in 0..6 {
                    prop_assert_eq!(pages.get(page), map.get(&page));
                }
            }
            prop_assert_eq!(pages.len(), 4);
        }
    }
}
