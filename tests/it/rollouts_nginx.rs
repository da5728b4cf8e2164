//! A release with a real nginx, which a pass over rollouts reloads while it serves.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driftsweep_extensions::http::Http;
use driftsweep_extensions::traffic::{Arm, TrafficConfig, TrafficSettings, TrafficTools, WantedTraffic};
use driftsweep_release::RolloutState;
use jiff::SignedDuration;

use crate::support::at;
use crate::support::needs::nginx;
use crate::support::output::says;
use crate::support::release::{Arms, BEGIN, Release};

const USERS: u32 = 4000;

struct Nginx {
    process: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The main process takes its workers with it.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

impl Nginx {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.join(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {};\n", at(name))).collect();
        let settings = format!(
            "daemon off;\nworker_processes 2;\nworker_shutdown_timeout 2s;\npid {};\nerror_log {} warn;\n\
             events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{temporary}include {};\n\
             server {{ listen 127.0.0.1:{port}; keepalive_timeout 0; location / {{ return 200 $model_version; }} }}\n}}\n",
            at("pid"),
            at("error.log"),
            at("arms.conf"),
        );
        fs::write(folder.join("nginx.conf"), settings).unwrap();
        // As docs/release.md says it is made before the first release.
        let first = "# driftsweep.split_clients/1: written by driftsweep; do not edit\n\
                     split_clients \"$cookie_user\" $model_version {\n    * 1;\n}\n";
        fs::write(folder.join("arms.conf"), first).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(folder.join("nginx.conf")).stderr(Stdio::null());
        let server = Self { process: command.spawn().unwrap(), port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn version(&self, user: u32) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET / HTTP/1.0\r\nHost: localhost\r\nCookie: user=u{user}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n").next().unwrap().to_owned()
    }

    /// The users whom the candidate serves; production serves all others.
    fn users(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for user in 0..USERS {
            match &*self.version(user) {
                "2" => drop(found.insert(user)),
                other => assert_eq!(other, "1"),
            }
        }
        found
    }
}

/// Whether as many users are in it as a share says: five standard deviations.
fn is_share(users: &BTreeSet<u32>, share: f64) {
    let all = f64::from(USERS);
    let off = (users.len() as f64 - share * all).abs();
    assert!(off <= 5.0 * (all * share * (1.0 - share)).sqrt(), "{} of {USERS} for {share}", users.len());
}

fn release() -> Release {
    let stages = "stages = [{ name = \"canary\", share = 0.05, lasts = \"1d\" }, { name = \"25 %\", share = 0.25, lasts = \"1d\" }, \
                  { name = \"full\", share = 1.0 }]\n";
    // The folder is known once the release is made.
    let commands = "test = [\"nginx\", \"-t\", \"-q\", \"-c\", \"FOLDER/nginx.conf\"], \
                    reload = [\"nginx\", \"-s\", \"reload\", \"-c\", \"FOLDER/nginx.conf\"]";
    let traffic = format!(
        "traffic = {{ nginx = {{ include = \"arms.conf\", variable = \"model_version\", key = \"$cookie_user\", pid = \"pid\", \
         {commands} }} }}\n"
    );
    Release::new(&format!("{stages}{traffic}"))
}

#[test]
fn nginx_gives_the_candidate_five_then_twenty_five_percent_then_all_and_its_users_stay_in_it() {
    if !nginx() {
        return;
    }
    let release = release();
    let server = Nginx::start(release.folder.path());
    assert_eq!(server.users().len(), 0);
    let mut before = BTreeSet::new();
    for (night, share) in [(0, 0.05), (1, 0.25), (2, 1.0)] {
        let now = at(BEGIN) + SignedDuration::from_hours(24 * night);
        let former = [0.0, 0.05, 0.25][night as usize];
        release.predict(now - SignedDuration::from_hours(24), Arms { share: former, ..Arms::new(0.95, 0.9) }, 20_000);
        let summary = release.pass(now, &mut |_| ());
        assert_eq!(summary.failures, [], "{share}");
        let users = server.users();
        is_share(&users, share);
        assert!(users.is_superset(&before), "users have left the candidate");
        before = users;
    }
    assert_eq!(before.len() as u32, USERS);
    // And back, in one command.
    let args = ["rollout", "rollback", "m", "--by", "ana", "--reason", "for a test", "--now", "2026-03-03T03:00:00Z"];
    says(&release.run(&args), 0, &["a share of 0 of traffic"]);
    assert_eq!(server.users().len(), 0);
}

#[test]
fn each_release_divides_users_in_another_way() {
    if !nginx() {
        return;
    }
    let release = release();
    let server = Nginx::start(release.folder.path());
    let TrafficConfig::Nginx(config) = &release.model().rollout.as_ref().unwrap().traffic else { panic!() };
    let (http, now) = (Http::new().unwrap(), at(BEGIN));
    let users = |rollout: &str| {
        let arm = |name: &str| Arm { name: name.into(), version: None, source: None };
        let wanted = WantedTraffic {
            fleet: "f".into(),
            model: "m".into(),
            rollout: rollout.into(),
            sequence: 1,
            candidate: arm("2"),
            production: arm("1"),
            share: 0.05,
        };
        config.open(TrafficTools { http: &http, now }).apply(&wanted).unwrap();
        server.users()
    };
    let (own, other) = (users("m-3"), users("m-4"));
    assert!(own.intersection(&other).count() * 3 < own.len(), "{} of {}", own.intersection(&other).count(), own.len());
}

#[test]
fn nginx_gives_all_back_to_production_within_the_tick_that_finds_the_candidate_worse() {
    if !nginx() {
        return;
    }
    let release = release();
    let server = Nginx::start(release.folder.path());
    release.pass(at(BEGIN), &mut |_| ());
    is_share(&server.users(), 0.05);
    release.predict(at(BEGIN), Arms { share: 0.05, ..Arms::new(0.8, 0.9) }, 20_000);
    release.pass(at("2026-03-02T02:00:00Z"), &mut |_| ());
    assert!(matches!(release.rollout().state, RolloutState::RolledBack { .. }), "{:?}", release.rollout().state);
    assert_eq!(server.users().len(), 0);
}
