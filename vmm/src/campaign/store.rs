// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A campaign's file: what it was begun with, its plan, and what came of each run, in SQLite, so that it can be
//! stopped at any moment and gone on with, and asked by whoever knows SQL.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, ffi, params};
use serde::{Deserialize, Serialize};

use super::file::Sample;
use super::heard::Heard;
use super::judge::{Judged, Outcome};
use super::plan::{self, Planned};
use super::sites::Site;
use super::target::Target;
use crate::engine::EngineKind;
use crate::evidence::GuestFile;
use crate::exit::Error;

/// Its name in the campaign's directory.
pub const FILE: &str = "campaign.sqlite";

/// Version of its format.
pub const SCHEMA: u32 = 4;

const TABLES: &str = "
    CREATE TABLE head (json TEXT NOT NULL);
    CREATE TABLE plan (
        id INTEGER PRIMARY KEY, target INTEGER NOT NULL, faults TEXT NOT NULL, class TEXT NOT NULL,
        grouped TEXT NOT NULL, place TEXT NOT NULL, function TEXT NOT NULL, pilot INTEGER NOT NULL,
        run INTEGER NOT NULL, twice INTEGER NOT NULL);
    CREATE TABLE outcome (
        id INTEGER PRIMARY KEY REFERENCES plan, outcome TEXT NOT NULL, found TEXT NOT NULL,
        corrupt INTEGER NOT NULL, why TEXT, diagnoses TEXT NOT NULL, told INTEGER NOT NULL, run_hash TEXT,
        same INTEGER);
    CREATE TABLE timing (
        id INTEGER PRIMARY KEY REFERENCES plan, wall_us INTEGER NOT NULL, after_us INTEGER NOT NULL,
        rss_kib INTEGER NOT NULL, hung INTEGER NOT NULL);
    CREATE TABLE session (jobs INTEGER NOT NULL, guests INTEGER NOT NULL, wall_us INTEGER NOT NULL);
";

/// What a campaign was begun with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the format.
    pub schema: u32,
    /// The campaign's file, in full.
    pub campaign: String,
    /// Where that was.
    pub path: PathBuf,
    /// What runs it all.
    pub program: String,
    /// What runs the guests.
    pub engine: EngineKind,
    /// How runs were chosen: as its file says, or as the command line.
    pub sample: Sample,
    /// Targets, in order.
    pub targets: Vec<TargetHead>,
    /// Hash over the plan.
    pub plan: String,
    /// The share that is run here, as text; all if none.
    pub share: Option<String>,
}

/// Of whatever version, that it has.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// A target, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHead {
    /// Scenario and kernel.
    pub name: String,
    /// The command that runs it without faults.
    pub command: String,
    /// SHA-256 of the kernel's image and of the guest's files.
    pub made_of: Vec<Option<String>>,
    /// Hash of the run without faults.
    pub run_hash: String,
}

impl TargetHead {
    /// Of one.
    pub fn of(target: &Target) -> Self {
        let Target {
            spec, artifacts, ..
        } = target;
        let hash = |file: &Option<GuestFile>| file.as_ref().map(|file| file.hash.clone());
        TargetHead {
            name: target.name(),
            command: spec.invocation.clone(),
            made_of: vec![
                artifacts.kernel.image_hash.clone(),
                hash(&artifacts.initrd),
                hash(&artifacts.disk),
            ],
            run_hash: target.run_hash.clone(),
        }
    }
}

impl Head {
    /// In what it differs from another share's, or from what there is now.
    pub fn differs(&self, other: &Head) -> Option<&'static str> {
        if self.program != other.program {
            Some("staleline or its plugin")
        } else if self.campaign != other.campaign {
            Some("the campaign's file")
        } else if self.engine != other.engine {
            Some("the engine")
        } else if self.targets != other.targets {
            Some("a kernel, the guest, or a run without faults")
        } else if self.sample != other.sample {
            Some("the sample")
        } else if self.plan != other.plan {
            Some("the plan")
        } else {
            None
        }
    }
}

/// What came of a run of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the plan.
    pub id: u32,
    /// What came of it.
    pub judged: Judged,
    /// What else is known of it.
    pub heard: Heard,
    /// Its run hash.
    pub run_hash: Option<String>,
    /// If it was run twice: whether it came to the same.
    pub same: Option<bool>,
    /// Host time of the guest, in microseconds.
    pub wall_us: u64,
    /// When it was entered, in microseconds of all sessions, one behind the other.
    pub after_us: u64,
    /// Memory of this process then, in KiB.
    pub rss_kib: u64,
    /// Guests of it that were stopped by the time, where the next was not.
    pub hung: u32,
}

/// A time in which runs were made, from the first to the last of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// At a time.
    pub jobs: usize,
    /// Runs of guests, repetitions included.
    pub guests: usize,
    /// Host time, in microseconds.
    pub wall_us: u64,
}

/// The file, open.
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Store {
    fn wrong(&self, source: rusqlite::Error) -> Error {
        wrong(&self.path, source)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one in a directory that has none.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(dir: &Path, head: &Head, plan: &[Planned]) -> Result<Self, Error> {
        Store::create_with(dir, head, plan, (&[], &[]))
    }

    /// Begins one in a directory that has none, with what has come of runs already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create_with(
        dir: &Path,
        head: &Head,
        plan: &[Planned],
        (entries, sessions): (&[Entry], &[Session]),
    ) -> Result<Self, Error> {
        let path = dir.join(FILE);
        // Whole, or not there.
        let making = dir.join(format!("{FILE}.new"));
        let _ = std::fs::remove_file(&making);
        let make = || -> rusqlite::Result<()> {
            let mut connection = Connection::open(&making)?;
            let all = connection.transaction()?;
            all.execute_batch(TABLES)?;
            let json = serde_json::to_string(head).map_err(unwritable)?;
            all.execute("INSERT INTO head VALUES (?1)", [json])?;
            insert_plan(&all, plan)?;
            for entry in entries {
                insert_entry(&all, entry)?;
            }
            for session in sessions {
                insert_session(&all, *session)?;
            }
            all.commit()
        };
        if let Err(e) = make() {
            let _ = std::fs::remove_file(&making);
            return Err(wrong(&path, e));
        }
        std::fs::rename(&making, &path).map_err(|source| Error::Output {
            path: path.clone(),
            source,
        })?;
        Store::open(dir)
    }

    /// Whether a directory has one: to be asked before it is locked, as that makes it.
    ///
    /// # Errors
    /// [`Error::NotARun`] if there is none.
    pub fn is_in(dir: &Path) -> Result<(), Error> {
        match dir.join(FILE).is_file() {
            true => Ok(()),
            false => Err(Error::NotARun {
                path: dir.to_owned(),
                why: format!("it is no campaign's directory: there is no {FILE}"),
            }),
        }
    }

    /// Whether a directory has none yet.
    ///
    /// # Errors
    /// [`Error::CampaignExists`] if it has.
    pub fn is_not_in(dir: &Path) -> Result<(), Error> {
        match dir.join(FILE).exists() {
            true => Err(Error::CampaignExists {
                path: dir.to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Opens one to go on with it.
    ///
    /// # Errors
    /// [`Error::NotARun`] if there is none, or it is none of ours.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        // What is none of ours is left as it is.
        Store::read(dir)?.head()?;
        let path = dir.join(FILE);
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            // What is entered survives the end of this process at any moment.
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            Ok(connection)
        };
        let connection = Mutex::new(open().map_err(|e| wrong(&path, e))?);
        Ok(Store { connection, path })
    }

    /// Opens one to read it, which may be where nothing can be written.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn read(dir: &Path) -> Result<Self, Error> {
        Store::is_in(dir)?;
        let path = dir.join(FILE);
        let read = |name: &Path, flags| -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(name, flags)?;
            let sound: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            match &*sound {
                "ok" => Ok(connection),
                _ => Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_CORRUPT),
                    Some(sound),
                )),
            }
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = read(&path, flags).or_else(|e| match e.sqlite_error_code() {
            // It would make a file beside it, to tell others that it reads. Where it cannot, nobody writes.
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                let text = path.to_string_lossy();
                let text = text
                    .replace('%', "%25")
                    .replace('?', "%3f")
                    .replace('#', "%23");
                let name = format!("file:{text}?immutable=1");
                read(Path::new(&name), flags | OpenFlags::SQLITE_OPEN_URI).map_err(|_| e)
            }
            _ => Err(e),
        });
        let connection = Mutex::new(connection.map_err(|e| wrong(&path, e))?);
        Ok(Store { connection, path })
    }

    /// What it was begun with.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it is damaged or of another version.
    pub fn head(&self) -> Result<Head, Error> {
        let connection = self.lock();
        let json = connection.query_row("SELECT json FROM head", [], |row| row.get::<_, String>(0));
        let json = json.map_err(|e| self.wrong(e))?;
        let damaged = |e: serde_json::Error| self.damaged(&e.to_string());
        let version: Version = serde_json::from_str(&json).map_err(damaged)?;
        match version.schema {
            SCHEMA => serde_json::from_str(&json).map_err(damaged),
            other => Err(self.damaged(&format!(
                "it has schema {other}, this program reads {SCHEMA}"
            ))),
        }
    }

    fn damaged(&self, why: &str) -> Error {
        Error::NotARun {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }

    /// What it was begun with, and the plan that goes with it.
    ///
    /// # Errors
    /// As [`Store::head`] and [`Store::plan`]; also if the plan is not the one that it was begun with.
    pub fn begun_with(&self) -> Result<(Head, Vec<Planned>), Error> {
        let (head, plan) = (self.head()?, self.plan()?);
        if plan::hash(&plan) != head.plan {
            return Err(self.damaged("its plan is not the one that it was begun with"));
        }
        let strangers = "SELECT count(*) FROM outcome WHERE id NOT IN (SELECT id FROM plan)";
        let strangers = self
            .lock()
            .query_row(strangers, [], |row| row.get::<_, u32>(0));
        match strangers.map_err(|e| self.wrong(e))? {
            0 => Ok((head, plan)),
            n => Err(self.damaged(&format!("{n} of its runs are not of its plan"))),
        }
    }

    /// The plan, in order.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it is damaged.
    fn plan(&self) -> Result<Vec<Planned>, Error> {
        let read = || -> rusqlite::Result<Vec<(Planned, String)>> {
            let connection = self.lock();
            let mut all = connection.prepare(
                "SELECT id, target, faults, grouped, pilot, run, twice, place, function FROM plan \
                 ORDER BY id",
            )?;
            let rows = all.query_map([], |row| {
                let planned = Planned {
                    id: row.get(0)?,
                    target: row.get(1)?,
                    faults: Vec::new(),
                    group: row.get(3)?,
                    site: Site {
                        place: row.get(7)?,
                        function: row.get(8)?,
                    },
                    pilot: row.get(4)?,
                    run: row.get(5)?,
                    twice: row.get(6)?,
                };
                Ok((planned, row.get(2)?))
            })?;
            rows.collect()
        };
        let rows = read().map_err(|e| self.wrong(e))?;
        rows.into_iter()
            .map(|(planned, faults)| {
                let faults = faults.split(',').map(str::parse).collect::<Result<_, _>>();
                Ok(Planned {
                    faults: faults.map_err(|why: String| self.damaged(&why))?,
                    ..planned
                })
            })
            .collect()
    }

    /// Enters what came of a run, in place of what came of it before.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn enter(&self, entry: &Entry) -> Result<(), Error> {
        let mut connection = self.lock();
        let mut write = || -> rusqlite::Result<()> {
            let all = connection.transaction()?;
            insert_entry(&all, entry)?;
            all.commit()
        };
        write().map_err(|e| self.wrong(e))
    }

    /// Enters how long that took.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn enter_session(&self, session: Session) -> Result<(), Error> {
        insert_session(&self.lock(), session).map_err(|e| self.wrong(e))
    }

    /// All of them.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it is damaged.
    pub fn sessions(&self) -> Result<Vec<Session>, Error> {
        let read = || -> rusqlite::Result<Vec<Session>> {
            let connection = self.lock();
            let mut all = connection.prepare("SELECT jobs, guests, wall_us FROM session")?;
            let rows = all.query_map([], |row| {
                let whole = |n: i64| usize::try_from(n).unwrap_or(0);
                Ok(Session {
                    jobs: whole(row.get(0)?),
                    guests: whole(row.get(1)?),
                    wall_us: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.wrong(e))
    }

    /// What has come of all that was run, by number.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it is damaged.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let read = || -> rusqlite::Result<Vec<(Entry, [String; 3])>> {
            let connection = self.lock();
            let mut all = connection.prepare(
                "SELECT id, outcome, found, corrupt, why, run_hash, same, wall_us, told, diagnoses, \
                        after_us, rss_kib, hung \
                 FROM outcome JOIN timing USING (id) ORDER BY id",
            )?;
            let rows = all.query_map([], |row| {
                let entry = Entry {
                    id: row.get(0)?,
                    judged: Judged {
                        outcome: Outcome::InfraError,
                        found: Vec::new(),
                        corrupt: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                        why: row.get(4)?,
                    },
                    heard: Heard {
                        diagnoses: Vec::new(),
                        told: row.get(8)?,
                    },
                    run_hash: row.get(5)?,
                    same: row.get(6)?,
                    wall_us: u64::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
                    after_us: u64::try_from(row.get::<_, i64>(10)?).unwrap_or(0),
                    rss_kib: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
                    hung: row.get(12)?,
                };
                Ok((entry, [row.get(1)?, row.get(2)?, row.get(9)?]))
            })?;
            rows.collect()
        };
        let rows = read().map_err(|e| self.wrong(e))?;
        rows.into_iter()
            .map(|(mut entry, [outcome, found, diagnoses])| {
                let known = Outcome::by_name(&outcome);
                entry.judged.outcome =
                    known.ok_or_else(|| self.damaged(&format!("outcome {outcome}")))?;
                let found = serde_json::from_str(&found);
                entry.judged.found = found.map_err(|e| self.damaged(&e.to_string()))?;
                let diagnoses = serde_json::from_str(&diagnoses);
                entry.heard.diagnoses = diagnoses.map_err(|e| self.damaged(&e.to_string()))?;
                Ok(entry)
            })
            .collect()
    }
}

fn insert_entry(all: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let found = serde_json::to_string(&entry.judged.found).map_err(unwritable)?;
    let diagnoses = serde_json::to_string(&entry.heard.diagnoses);
    all.prepare_cached(
        "INSERT OR REPLACE INTO outcome VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        entry.id,
        entry.judged.outcome.name(),
        found,
        // SQLite's integers have a sign.
        i64::try_from(entry.judged.corrupt).unwrap_or(i64::MAX),
        entry.judged.why,
        diagnoses.map_err(unwritable)?,
        entry.heard.told,
        entry.run_hash,
        entry.same,
    ])?;
    let wall = i64::try_from(entry.wall_us).unwrap_or(i64::MAX);
    let after = i64::try_from(entry.after_us).unwrap_or(i64::MAX);
    let rss = i64::try_from(entry.rss_kib).unwrap_or(i64::MAX);
    all.prepare_cached("INSERT OR REPLACE INTO timing VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![entry.id, wall, after, rss, entry.hung])?;
    Ok(())
}

fn insert_session(all: &Connection, session: Session) -> rusqlite::Result<()> {
    let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let wall = i64::try_from(session.wall_us).unwrap_or(i64::MAX);
    all.execute(
        "INSERT INTO session VALUES (?1, ?2, ?3)",
        params![whole(session.jobs), whole(session.guests), wall],
    )?;
    Ok(())
}

fn insert_plan(all: &Transaction<'_>, plan: &[Planned]) -> rusqlite::Result<()> {
    let mut insert =
        all.prepare("INSERT INTO plan VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for one in plan {
        insert.execute(params![
            one.id,
            one.target,
            one.setting(),
            one.class(),
            one.group,
            one.site.place,
            one.site.function,
            one.pilot,
            one.run,
            one.twice
        ])?;
    }
    Ok(())
}

fn unwritable(e: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(e))
}

fn wrong(path: &Path, source: rusqlite::Error) -> Error {
    Error::Store {
        path: path.to_owned(),
        source,
    }
}
