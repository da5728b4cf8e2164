//! A real nginx, reloaded while it serves: shares, and who is in them.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot go on has failed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driftsweep_release::nginx::SplitClients;

const USERS: u32 = 4000;

struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The master takes its workers with it.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

fn start(folder: &Path) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |name: &str| folder.join(name).display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {};\n", at(name))).collect();
    let settings = format!(
        "daemon off;\nworker_processes 2;\npid {};\nerror_log {} warn;\nevents {{ worker_connections 64; }}\n\
         http {{\naccess_log off;\n{temporary}include {};\n\
         server {{ listen 127.0.0.1:{port}; keepalive_timeout 0; location / {{ return 200 $arm; }} }}\n}}\n",
        at("pid"),
        at("error.log"),
        at("arm.conf"),
    );
    fs::write(folder.join("nginx.conf"), settings).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf")).stderr(Stdio::null());
    let server = Server { process: command.spawn().unwrap(), port };
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nginx does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

impl Server {
    fn arm(&self, user: u32) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET / HTTP/1.0\r\nHost: localhost\r\nCookie: user=u{user}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n").next().unwrap().to_owned()
    }

    fn candidates(&self) -> BTreeSet<u32> {
        (0..USERS).filter(|user| self.arm(*user) == "candidate").collect()
    }

    /// Reloads the settings, and waits until the workers of before are gone: they answer by the settings of before.
    fn reload(&self, folder: &Path) {
        let workers = || {
            let children = Command::new("pgrep").args(["-P", &self.process.id().to_string()]).output().unwrap();
            String::from_utf8(children.stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let before = workers();
        let done = Command::new("nginx").args(["-s", "reload", "-c"]).arg(folder.join("nginx.conf")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let begun = Instant::now();
        while !workers().is_disjoint(&before) || workers().len() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(20), "old workers do not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether there is an nginx, and `pgrep`. Without them the test fails where everything is to be tested.
fn has_nginx() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let reason = match () {
        () if is_set("DRIFTSWEEP_TEST_NO_NGINX") => "DRIFTSWEEP_TEST_NO_NGINX is set",
        () if ["nginx", "pgrep"].iter().all(|name| Command::new(name).arg("-V").output().is_ok()) => return true,
        () if is_set("DRIFTSWEEP_TEST_ALL") => panic!("there is no nginx, or no pgrep; install nginx-light and procps"),
        () => "there is no nginx, or no pgrep",
    };
    // Not by a macro: what those print is shown for failed tests only.
    let _ = writeln!(std::io::stderr(), "SKIPPED: traffic divided by nginx: {reason}");
    false
}

#[test]
fn users_who_were_in_five_percent_stay_in_twenty_five_and_all_go_back_at_once() {
    if !has_nginx() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let split = SplitClients::new("arm", "$cookie_user").unwrap();
    let set = |rollout: &str, share: f64| {
        fs::write(folder.path().join("arm.conf"), split.render(rollout, share, ("candidate", "production")).unwrap())
            .unwrap()
    };
    set("m-3", 0.0);
    let server = start(folder.path());
    assert_eq!(server.candidates().len(), 0);
    let mut earlier = BTreeSet::new();
    for share in [0.05, 0.25, 1.0] {
        set("m-3", share);
        server.reload(folder.path());
        let now = server.candidates();
        assert!(now.is_superset(&earlier), "{share}: users have left the candidate");
        // Five standard deviations.
        let (wanted, users) = (share * f64::from(USERS), f64::from(USERS));
        let off = (now.len() as f64 - wanted).abs();
        assert!(off <= 5.0 * (users * share * (1.0 - share)).sqrt(), "{share}: {} of {USERS}", now.len());
        earlier = now;
    }
    set("m-3", 0.0);
    server.reload(folder.path());
    assert_eq!(server.candidates().len(), 0);
    // Another rollout divides users in another way.
    let five = |rollout: &str| {
        set(rollout, 0.05);
        server.reload(folder.path());
        server.candidates()
    };
    let (own, other) = (five("m-3"), five("m-4"));
    assert!(own.intersection(&other).count() * 3 < own.len(), "{} of {}", own.intersection(&other).count(), own.len());
}
