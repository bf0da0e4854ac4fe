// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! State that can be saved, and restored in another instance of the same kind.
//!
//! Each component has a *state*: plain data, apart from the live component, in a `state.rs` beside it
//! (or at the end of its file). What the board decides is in no state, and what follows from the rest is
//! made anew. Types that are nothing but data stand in a state as they are.
//!
//! A state is encoded with its component's name and a version ([`State::VERSION`]), which is to go up
//! whenever its fields, or those of a type in it, change. Nothing older or newer is read: a state is for
//! the program that saved it. Whatever comes in is taken for hostile: lengths, indices and times are
//! checked before anything goes by them, so that a state that is damaged, or of another board, is an
//! error or at worst another guest's history, and never a panic.
//!
//! States hold no memory of the guest and nothing of an engine: whoever saves a machine keeps those.

#[cfg(test)]
pub(crate) mod twins;

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// The state of one kind of component.
pub trait State: Serialize + DeserializeOwned {
    /// Name of the kind, for example `axi-dmac`.
    const COMPONENT: &'static str;
    /// Version of its format, from 1.
    const VERSION: u16;
}

/// A component that has a state.
pub trait Stateful {
    /// Its state.
    type State: State;

    /// The state as it is now. Takes the component apart by its fields' names, so that one that is added
    /// has to be state, or to be named as none.
    ///
    /// # Errors
    /// [`SaveError`] of a part with a state of its own.
    fn state(&self) -> Result<Self::State, SaveError>;

    /// Takes a state over, whatever its values, from a component that was built alike.
    ///
    /// # Errors
    /// What it may not hold, here or in a part with a state of its own.
    fn set_state(&mut self, state: Self::State) -> Result<(), Refused>;

    /// Encodes the state as it is now.
    ///
    /// # Errors
    /// [`SaveError`].
    fn save_state(&self) -> Result<Saved, SaveError> {
        Saved::new(&self.state()?)
    }

    /// Takes an encoded state over.
    ///
    /// # Errors
    /// [`RestoreError`].
    fn restore_state(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.set_state(saved.open()?).map_err(|why| match why {
            Refused::Value(value) => value.of::<Self::State>(),
            Refused::Part(error) => error,
        })
    }
}

/// Why [`Stateful::set_state`] has not taken a state over.
#[derive(Debug)]
pub enum Refused {
    /// A value of its own.
    Value(Invalid),
    /// A part with a state of its own.
    Part(RestoreError),
}

impl From<Invalid> for Refused {
    fn from(value: Invalid) -> Self {
        Refused::Value(value)
    }
}

impl From<RestoreError> for Refused {
    fn from(error: RestoreError) -> Self {
        Refused::Part(error)
    }
}

/// A component's state, encoded: the same state gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    component: String,
    version: u16,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// A state cannot be encoded: a mistake in its type.
#[derive(Debug, thiserror::Error)]
#[error("the state of {component} cannot be saved")]
pub struct SaveError {
    component: &'static str,
    source: postcard::Error,
}

/// Why a state is not restored. What it was for may be changed in part then, and is of no more use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of {component} {problem}")]
pub struct RestoreError {
    component: String,
    problem: Problem,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("is one of {0}: it is of another board; restore it on the board that it was saved on")]
    Component(String),
    #[error(
        "has version {found}, and this program knows version {known}: restore it with the program \
         that saved it"
    )]
    Version { found: u16, known: u16 },
    #[error("cannot be read ({0}): it is damaged; save it again")]
    Encoding(String),
    #[error("has {0}: it is damaged, or of another board; restore what was saved on this board")]
    Value(Invalid),
}

/// A value that a state may not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {found}, where {allowed} is allowed")]
pub struct Invalid {
    field: &'static str,
    found: String,
    allowed: String,
}

/// Latest time and highest count that a state may hold: far beyond any run, and what comes after it
/// does not overflow.
pub const LATEST: u64 = 1 << 60;

impl Invalid {
    /// `field` is `found`, where only `allowed` is.
    pub fn new(field: &'static str, found: impl Display, allowed: impl Display) -> Self {
        Invalid {
            field,
            found: found.to_string(),
            allowed: allowed.to_string(),
        }
    }

    /// Of a component of kind `S`.
    pub fn of<S: State>(self) -> RestoreError {
        RestoreError {
            component: S::COMPONENT.into(),
            problem: Problem::Value(self),
        }
    }
}

/// Checks that a value is at most `limit`.
///
/// # Errors
/// [`Invalid`] if not.
pub fn at_most(field: &'static str, found: u64, limit: u64) -> Result<(), Invalid> {
    if found <= limit {
        return Ok(());
    }
    Err(Invalid::new(field, found, format_args!("at most {limit}")))
}

/// The same for a length.
///
/// # Errors
/// [`Invalid`] if it is longer.
pub fn no_longer(field: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    at_most(field, found as u64, limit as u64)
}

/// Checks times and counts: see [`LATEST`].
///
/// # Errors
/// [`Invalid`] if one is later.
pub fn times(field: &'static str, found: &[u64]) -> Result<(), Invalid> {
    found.iter().try_for_each(|t| at_most(field, *t, LATEST))
}

/// Checks that a value is the one that the board has.
///
/// # Errors
/// [`Invalid`] if not.
pub fn same<T: PartialEq + std::fmt::Debug>(
    field: &'static str,
    found: &T,
    here: &T,
) -> Result<(), Invalid> {
    if found == here {
        return Ok(());
    }
    let text = |value: &T| format!("{value:?}").chars().take(80).collect::<String>();
    Err(Invalid::new(field, text(found), text(here)))
}

impl Saved {
    /// Encodes a state.
    ///
    /// # Errors
    /// [`SaveError`], which no state of this crate is.
    pub fn new<S: State>(state: &S) -> Result<Self, SaveError> {
        let component = S::COMPONENT;
        Ok(Saved {
            component: component.into(),
            version: S::VERSION,
            bytes: postcard::to_stdvec(state).map_err(|source| SaveError { component, source })?,
        })
    }

    /// Decodes it: a state with whatever values, which are still to be checked.
    ///
    /// # Errors
    /// If it is of another kind or version, or cannot be read.
    pub fn open<S: State>(&self) -> Result<S, RestoreError> {
        let failed = |problem| RestoreError {
            component: S::COMPONENT.into(),
            problem,
        };
        if self.component != S::COMPONENT {
            let found = self.component.chars().take(80).collect();
            return Err(failed(Problem::Component(found)));
        }
        let (found, known) = (self.version, S::VERSION);
        if found != known {
            return Err(failed(Problem::Version { found, known }));
        }
        match postcard::take_from_bytes(&self.bytes) {
            Ok((state, [])) => Ok(state),
            Ok(_) => Err(failed(Problem::Encoding("bytes are left over".into()))),
            Err(e) => Err(failed(Problem::Encoding(e.to_string()))),
        }
    }

    /// Bytes of the encoded state.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the state has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The encoded state to play with, for tests that damage it.
    #[cfg(any(test, feature = "testutil"))]
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Another version, likewise.
    #[cfg(any(test, feature = "testutil"))]
    pub fn set_version(&mut self, version: u16) {
        self.version = version;
    }

    /// Seals a whole machine's state for keeping: with a mark, and a sum that tells damage.
    ///
    /// # Errors
    /// [`SaveError`] likewise.
    pub fn seal(&self) -> Result<Vec<u8>, SaveError> {
        let component = "a machine";
        let body = postcard::to_stdvec(self).map_err(|source| SaveError { component, source })?;
        let mut sealed = Vec::with_capacity(HEAD + body.len());
        sealed.extend(MARK);
        sealed.extend(XxHash3_64::oneshot(&body).to_le_bytes());
        sealed.extend(body);
        Ok(sealed)
    }

    /// What [`Saved::seal`] has sealed.
    ///
    /// # Errors
    /// If it is something else, or was damaged.
    pub fn unseal(sealed: &[u8]) -> Result<Self, RestoreError> {
        let failed = |why: &str| RestoreError {
            component: "a machine".into(),
            problem: Problem::Encoding(why.into()),
        };
        let rest = sealed.strip_prefix(MARK);
        let (sum, body) = rest
            .and_then(|rest| rest.split_first_chunk())
            .ok_or_else(|| failed("its mark is missing"))?;
        if u64::from_le_bytes(*sum) != XxHash3_64::oneshot(body) {
            return Err(failed("its sum is wrong"));
        }
        match postcard::take_from_bytes(body) {
            Ok((saved, [])) => Ok(saved),
            Ok(_) => Err(failed("bytes are left over")),
            Err(e) => Err(failed(&e.to_string())),
        }
    }
}

/// What a sealed state begins with.
const MARK: &[u8; 8] = b"stalesav";

/// Bytes before the state itself: mark and sum.
const HEAD: usize = 16;

impl RestoreError {
    /// The same of the component of that name on the board.
    #[must_use]
    pub fn on(self, name: &str) -> Self {
        RestoreError {
            component: format!("{name} ({})", self.component),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two(u32, String);

    impl State for Two {
        const COMPONENT: &'static str = "two";
        const VERSION: u16 = 3;
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Other;

    impl State for Other {
        const COMPONENT: &'static str = "other";
        const VERSION: u16 = 3;
    }

    fn saved() -> Saved {
        Saved::new(&Two(7, "x".into())).unwrap()
    }

    #[test]
    fn what_was_saved_comes_back() {
        let sealed = saved().seal().unwrap();
        let back = Saved::unseal(&sealed).unwrap();
        assert_eq!(back, saved());
        assert_eq!(back.open::<Two>().unwrap(), Two(7, "x".into()));
    }

    #[test]
    fn another_kind_another_version_and_more_bytes_are_told_apart() {
        let text = |e: RestoreError| e.to_string();
        let of_other = text(saved().open::<Other>().unwrap_err());
        assert!(of_other.contains("of other is one of two: it is of another board"));
        let mut newer = saved();
        newer.set_version(4);
        let newer = text(newer.open::<Two>().unwrap_err());
        assert!(newer.contains("has version 4, and this program knows version 3"));
        let mut longer = saved();
        longer.bytes_mut().push(0);
        let longer = text(longer.open::<Two>().unwrap_err().on("usb"));
        assert!(longer.contains("of usb (two) cannot be read (bytes are left over)"));
        let wrong = text(at_most("speed", 9, 8).unwrap_err().of::<Two>());
        assert!(wrong.contains("of two has speed = 9, where at most 8 is allowed"));
    }

    #[test]
    fn a_seal_tells_all_damage() {
        let sealed = saved().seal().unwrap();
        for n in 0..sealed.len() {
            assert!(Saved::unseal(&sealed[..n]).is_err(), "{n} bytes");
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[n] ^= 1 << bit;
                assert!(Saved::unseal(&damaged).is_err(), "bit {bit} of byte {n}");
            }
        }
    }
}
