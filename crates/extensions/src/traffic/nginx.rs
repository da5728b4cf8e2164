//! Traffic by nginx: `nginx` in the fleet file. A file with `split_clients` is written, tested and loaded; a variable then has the
//! version of each request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::command::{polls, program, run, words};
use super::{Traffic, TrafficAdapterTable, TrafficSettings, TrafficTools, WantedTraffic};
use crate::check::{self, Findings};
use crate::executor::command::environment::variables_for;
use crate::http::RequestFailure;
use crate::value::{Validated, local};
use driftsweep_common::atomic;
use driftsweep_common::duration::Length;
use driftsweep_release::nginx::SplitClients;

/// A variable of nginx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxConfig {
    /// The file that nginx includes.
    pub include: PathBuf,
    /// The variable, and what a user is known by.
    pub split: SplitClients,
    /// The command that tests the settings.
    pub test: Vec<String>,
    /// The command that loads them.
    pub reload: Vec<String>,
    /// The file with the number of the main process.
    pub pid: Option<PathBuf>,
    /// How long former workers are waited for.
    pub drain: Duration,
}

/// The table `nginx` of `[model.rollout.traffic]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NginxTable {
    /// The file that is written, which an `include` in the `http` block of nginx names.
    include: String,
    /// The variable that has the version, without `$`.
    variable: String,
    /// Variables of nginx that tell users apart, such as `$cookie_user`.
    key: String,
    /// The command that tests the settings. By default `["nginx", "-t", "-q"]`.
    test: Option<Vec<String>>,
    /// The command that loads the settings. By default `["nginx", "-s", "reload"]`.
    reload: Option<Vec<String>>,
    /// The file with the number of nginx's main process, to see when its former workers have ended. By default `/run/nginx.pid`.
    pid: Option<String>,
    /// How long former workers are waited for before the next tick looks again. By default 30s.
    drain: Option<Length>,
}

impl TrafficAdapterTable for NginxTable {
    type Settings = NginxConfig;

    fn resolve(&self, folder: &Path) -> Validated<NginxConfig> {
        let command = |what: &str, own: &Option<Vec<String>>, built_in: &[&str]| match own {
            Some(own) => words(what, own),
            None => Ok(built_in.iter().map(ToString::to_string).collect()),
        };
        Ok(NginxConfig {
            include: local("nginx.include", &self.include, folder)?,
            split: SplitClients::new(&self.variable, &self.key).map_err(|reason| format!("nginx.{reason}"))?,
            test: command("nginx.test", &self.test, &["nginx", "-t", "-q"])?,
            reload: command("nginx.reload", &self.reload, &["nginx", "-s", "reload"])?,
            pid: Some(local("nginx.pid", self.pid.as_deref().unwrap_or("/run/nginx.pid"), folder)?),
            drain: self.drain.map_or(Duration::from_secs(30), Length::unsigned),
        })
    }
}

impl TrafficSettings for NginxConfig {
    fn open<'a>(&'a self, _: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(NginxTraffic { nginx: self })
    }

    fn check(&self, findings: &mut Findings) {
        check::file("rollout.traffic.nginx.include", &self.include, findings);
        for words in [&self.test, &self.reload] {
            program(&words[0], Path::new(""), findings);
        }
    }

    fn check_arm(&self, name: &str) -> Validated<()> {
        self.split.render("", 0.5, (name, name)).map(drop)
    }
}

/// The largest include file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// How often former workers are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The adapter.
pub struct NginxTraffic<'a> {
    nginx: &'a NginxConfig,
}

impl NginxTraffic<'_> {
    /// The text of the include file; `None` where there is none. One that this program has not written is refused.
    fn read(&self) -> Result<Option<String>, RequestFailure> {
        let path = &self.nginx.include;
        let wrong = |reason: String| RequestFailure::transient(format!("{}: {reason}", path.display()));
        let Some(bytes) = atomic::read_external(path, MAX_BYTES).map_err(|e| wrong(e.to_string()))? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match text.is_empty() || SplitClients::share_in(&text, "").is_some() {
            true => Ok(Some(text)),
            false => Err(wrong("was not written by driftsweep; it is left as it is; name another file".into())),
        }
    }

    /// The text of the include file.
    fn render(&self, wanted: &WantedTraffic) -> Result<String, RequestFailure> {
        let arms = (&*wanted.candidate.name, &*wanted.production.name);
        self.nginx.split.render(&wanted.rollout, wanted.share, arms).map_err(RequestFailure::permanent)
    }

    fn run(&self, words: &[String]) -> Result<String, RequestFailure> {
        run(words, Path::new(""), variables_for(&[]), &[])
    }

    /// Waits until no former worker serves requests any more: it would divide them as before.
    fn drain(&self) -> Result<(), RequestFailure> {
        let Some(main) = self.nginx.pid.as_ref().and_then(|pid| atomic::read_text(pid, 64).ok()) else { return Ok(()) };
        let mut left = former_workers(main.trim());
        for _ in 0..polls(self.nginx.drain, POLL_INTERVAL) {
            if left == 0 {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
            left = former_workers(main.trim());
        }
        match left {
            0 => Ok(()),
            left => Err(RequestFailure::transient(format!(
                "{left} former workers of nginx still serve requests, as they were divided before; set worker_shutdown_timeout in \
                 nginx"
            ))),
        }
    }
}

/// The workers of a main process that only finish what they have begun.
fn former_workers(main: &str) -> usize {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let is_former = |folder: &Path| {
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
        let title = String::from_utf8_lossy(&read("cmdline")).into_owned();
        // The fourth field, after the name in parentheses and the state, is the parent.
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned));
        title.contains("worker process is shutting down") && parent.as_deref() == Some(main)
    };
    processes.flatten().filter(|process| is_former(&process.path())).count()
}

impl Traffic for NginxTraffic<'_> {
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure> {
        let former = self.read()?;
        let text = self.render(wanted)?;
        atomic::write(&self.nginx.include, text.as_bytes())?;
        if let Err(failure) = self.run(&self.nginx.test) {
            // nginx must be able to start again.
            match former {
                Some(former) => atomic::write(&self.nginx.include, former.as_bytes())?,
                None => drop(std::fs::remove_file(&self.nginx.include)),
            }
            return Err(failure);
        }
        // Also where the text is the same: the last attempt may have ended before it was loaded.
        self.run(&self.nginx.reload)?;
        // The main process marks its former workers a moment after the command has ended.
        std::thread::sleep(4 * POLL_INTERVAL);
        self.drain()
    }

    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure> {
        let text = self.read()?.unwrap_or_default();
        let share = SplitClients::share_in(&text, &wanted.candidate.name).unwrap_or(0.0);
        // The key or another arm may have been changed.
        let same = self.render(wanted)? == text;
        Ok(Some(if same || (share - wanted.share).abs() > super::SAME_SHARE { share } else { f64::NAN }))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::traffic::wanted;

    #[test]
    fn settings_that_nginx_refuses_are_taken_back_and_a_file_of_others_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let include = folder.path().join("arms.conf");
        let nginx = NginxConfig {
            include: include.clone(),
            split: SplitClients::new("arm", "$cookie_user").unwrap(),
            test: vec!["true".into()],
            reload: vec!["true".into()],
            pid: None,
            drain: Duration::ZERO,
        };
        let traffic = NginxTraffic { nginx: &nginx };
        assert_eq!(traffic.share(&wanted(0.05, 1)).unwrap(), Some(0.0));
        traffic.apply(&wanted(0.05, 1)).unwrap();
        assert_eq!(traffic.share(&wanted(0.05, 1)).unwrap(), Some(0.05));
        let other_key = std::fs::read_to_string(&include).unwrap().replace("$cookie_user", "$remote_addr");
        std::fs::write(&include, other_key).unwrap();
        assert!(traffic.share(&wanted(0.05, 1)).unwrap().unwrap().is_nan());
        traffic.apply(&wanted(0.05, 1)).unwrap();
        let before = std::fs::read_to_string(&include).unwrap();
        let refusing = NginxConfig { test: vec!["false".into()], ..nginx.clone() };
        assert!(NginxTraffic { nginx: &refusing }.apply(&wanted(0.25, 2)).is_err());
        assert_eq!(std::fs::read_to_string(&include).unwrap(), before);
        std::fs::write(&include, "# mine\n").unwrap();
        assert!(traffic.apply(&wanted(0.25, 2)).unwrap_err().reason.contains("left as it is"));
        assert_eq!(std::fs::read_to_string(&include).unwrap(), "# mine\n");
    }
}
