//! Where requests go, what they carry, and how long they are waited for: against servers that send elsewhere, are silent, are
//! slow, or never come to an end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use driftsweep::model::Options;
use driftsweep_extensions::http::{self, Http};
use driftsweep_fleet::{Endpoint, Fleet, SecretSource};
use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_ops::store::Store;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;
use sqlx::{AnyConnection, Connection, Executor};
use tempfile::TempDir;

use crate::support::output::all_output;
use crate::support::server::{Answer, Request, answer, http};

const TABLE: &str = "x,y\n1,a\n2,b\n3,a\n";

/// What a store is told in the environment.
const KEY: &str = "K3yOfTheStore-5ecret";
const TOKEN: &str = "T0kenOfTheSession-5ecret";

fn with_keys(endpoint: &str, args: &[&str]) -> Output {
    within("500ms", endpoint, args)
}

/// The same, with a time after which requests are tried again.
fn within(timeout: &str, endpoint: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftsweep"))
        .args(args)
        .env("AWS_ENDPOINT", endpoint)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", KEY)
        .env("AWS_SESSION_TOKEN", TOKEN)
        .env("DRIFTSWEEP_IO_TIMEOUT", timeout)
        .output()
        .unwrap()
}

/// A table in a folder: its path.
fn table(folder: &TempDir) -> String {
    let file = folder.path().join("a.csv");
    fs::write(&file, TABLE).unwrap();
    file.display().to_string()
}

/// A request for an object as a store answers it.
fn object(request: &Request) -> Answer {
    let bytes = TABLE.as_bytes();
    let head = "etag: \"1\"\r\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else {
        return Answer { status: Some(200), head: head.into(), body: bytes.into() };
    };
    let from: usize = from.parse().unwrap();
    let to = to.parse::<usize>().unwrap().min(bytes.len() - 1);
    let head = format!("{head}content-range: bytes {from}-{to}/{}\r\n", bytes.len());
    Answer { status: Some(206), head, body: bytes[from..=to].to_vec() }
}

type Kept = Arc<Mutex<Vec<Request>>>;

/// A server that keeps what it is sent and has the table under every name.
fn store() -> (String, Kept) {
    let kept = Kept::default();
    let log = kept.clone();
    let url = http(move |request| {
        log.lock().unwrap().push(request.clone());
        object(request)
    });
    (url, kept)
}

/// A server that sends every request that is `sent` to the same path at another origin.
fn elsewhere(to: &str, status: u16, sent: impl Fn(&Request) -> bool + Send + Sync + 'static) -> String {
    let to = to.to_owned();
    http(move |request| match sent(request) {
        true => Answer {
            status: Some(status),
            head: format!(
                "location: {to}{}{}\r\n",
                request.path,
                if request.path.contains('?') { "" } else { "?to=1" }
            ),
            body: Vec::new(),
        },
        false => object(request),
    })
}

#[test]
fn no_request_with_credentials_follows_to_another_origin() {
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    let (other, kept) = store();
    let refused = |from: &str, output: Output, code: i32, what: &str| {
        let text = all_output(&output);
        assert_eq!(output.status.code(), Some(code), "{what}: {text}");
        assert!(text.contains(from) && text.contains(&format!("{other}, which is not followed")), "{what}: {text}");
        assert!(!text.contains("5ecret") && !text.contains("to=1"), "{what}: {text}");
        assert_eq!(kept.lock().unwrap().len(), 0, "{what}");
    };
    for status in [301, 302, 303, 307, 308] {
        let all = elsewhere(&other, status, |_| true);
        for (spec, what) in [("s3://b/x.csv", "open"), ("s3://b/day/", "list"), ("s3://b/day-*.csv", "pattern")] {
            refused(&all, with_keys(&all, &["compare", &local, spec]), 3, what);
        }
        refused(&all, with_keys(&all, &["compare", &local, &local, "-o", "s3://b/out.txt"]), 7, "write");
        let reads = elsewhere(&other, status, |request| request.method == "GET");
        refused(&reads, with_keys(&reads, &["compare", &local, "s3://b/x.csv"]), 3, "read");
        let address = all.replace("://", "://ana:5ecret-pa55word@");
        refused(&all, with_keys(&all, &["compare", &local, &format!("{address}/x.csv")]), 3, "password");
    }
}

#[test]
fn a_redirect_without_credentials_is_followed_and_takes_nothing_along() {
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    let (other, kept) = store();
    let first = elsewhere(&other, 302, |_| true);
    for query in ["", "?sig=5ecretsig"] {
        let output = with_keys(&first, &["compare", &local, &format!("{first}/x.csv{query}")]);
        // Another place is told a link's own query only where the first one repeats it.
        assert!(matches!(output.status.code(), Some(0 | 11)), "{}", all_output(&output));
        assert!(!all_output(&output).contains("5ecret"), "{}", all_output(&output));
    }
    let seen = kept.lock().unwrap();
    assert!(seen.len() > 3);
    for request in seen.iter() {
        for header in ["referer", "authorization", "cookie", "x-amz-security-token"] {
            assert!(!request.headers.contains_key(header), "{header}: {request:?}");
        }
    }
    // Within one origin requests with credentials are followed, too.
    let (_, inner) = store();
    let log = inner.clone();
    let same = http(move |request| {
        log.lock().unwrap().push(request.clone());
        match request.path.starts_with("/b/") {
            true => {
                let head = format!("location: /moved{}\r\n", request.path);
                Answer { status: Some(307), head, body: Vec::new() }
            }
            false => object(request),
        }
    });
    let output = with_keys(&same, &["compare", &local, "s3://b/x.csv"]);
    assert!(matches!(output.status.code(), Some(0 | 11)), "{}", all_output(&output));
    assert!(inner.lock().unwrap().iter().any(|request| request.path == "/moved/b/x.csv"));
    // Without end it is not.
    let round = http(|request| Answer {
        status: Some(302),
        head: format!("location: {}x\r\n", request.path),
        body: Vec::new(),
    });
    let output = with_keys(&round, &["compare", &local, &format!("{round}/x.csv")]);
    assert!(
        output.status.code() == Some(3) && all_output(&output).contains("more than 5 redirects"),
        "{}",
        all_output(&output)
    );
}

#[test]
fn a_user_and_a_password_in_an_address_are_sent_as_http_has_it() {
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    let (url, kept) = store();
    let address = url.replace("://", "://an%40a:pa55%2Fw+rd@");
    let output = with_keys(&url, &["compare", &local, &format!("{address}/x.csv")]);
    assert!(matches!(output.status.code(), Some(0 | 11)), "{}", all_output(&output));
    let seen = kept.lock().unwrap();
    let wanted = format!("Basic {}", STANDARD.encode("an@a:pa55/w+rd"));
    assert!(!seen.is_empty() && seen.iter().all(|request| request.headers["authorization"] == wanted), "{seen:?}");
}

#[test]
fn no_body_of_a_stores_error_is_repeated() {
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    for status in [400, 401, 403, 409, 412, 416, 500, 503] {
        let url = http(move |request| {
            let all = format!("{} {:?} {KEY} {TOKEN} {}", request.path, request.headers, "x".repeat(200_000));
            let body = format!(
                "<Error><Code>ExpiredToken</Code><RequestId>4442587FB7D0A2F9</RequestId><SessionToken>5ecret</SessionToken><A>{all}</A></Error>"
            );
            answer(status, body)
        });
        for args in [
            &["compare", &local, "s3://b/x.csv"][..],
            &["compare", &local, "s3://b/day/"],
            &["compare", &local, &local, "-o", "s3://b/out.txt"],
            &["compare", &local, &format!("{url}/x.csv?sig=5ecret")],
            &["compare", &local, &format!("{}/x.csv", url.replace("://", "://me:5ecret@"))],
        ] {
            let output = with_keys(&url, args);
            let text = all_output(&output);
            assert!(matches!(output.status.code(), Some(3 | 7)), "{status} {args:?}: {text}");
            assert!(!text.contains("5ecret") && !text.contains("xxxx") && text.lines().count() == 1, "{text}");
            if status == 400 && args[2] == "s3://b/day/" {
                assert!(text.contains("code ExpiredToken, request 4442587FB7D0A2F9"), "{text}");
            }
        }
    }
}

/// A server that takes what comes and goes on as told: with the head of each request and the connection.
fn raw(then: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let then = Arc::new(then);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let then = then.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|n| n > 2) {}
                then(&head, &mut stream);
            });
        }
    });
    url
}

/// Sends something again and again, as long as somebody takes it.
fn trickle(stream: &mut TcpStream, what: &[u8], every: Duration) {
    while stream.write_all(what).is_ok() {
        std::thread::sleep(every);
    }
}

const TICK: Duration = Duration::from_millis(100);

/// `DRIFTSWEEP_IO_TIMEOUT` is two seconds here: an operation ends within six, and starting the program takes its time, too.
const BOUND: Duration = Duration::from_secs(6);
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn no_store_is_waited_for_longer_than_three_times_the_timeout() {
    const OK: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    let silent = raw(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let slow_head = raw(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        trickle(stream, b"x", TICK);
    });
    // The object is said to be large, and comes byte by byte.
    let slow_body = raw(|head, stream| {
        let _ = stream.write_all(format!("{OK}content-length: 100000\r\n\r\n").as_bytes());
        if !head.starts_with("HEAD") {
            trickle(stream, b"x", TICK);
        }
    });
    let slow_parts = raw(|head, stream| {
        let range = head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let range = range.map_or(String::new(), |range| format!("content-range: bytes {range}/100000\r\n"));
        let status = if range.is_empty() { OK } else { &OK.replace("200 OK", "206 Partial Content") };
        let _ = stream.write_all(format!("{status}{range}content-length: 100000\r\n\r\n").as_bytes());
        if !head.starts_with("HEAD") {
            trickle(stream, b"x", TICK);
        }
    });
    let slow_error = raw(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1000000\r\n\r\n");
        trickle(stream, b"<Error>", TICK);
    });
    let endless_error = raw(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        trickle(stream, &[b'x'; 4096], Duration::ZERO);
    });
    let closing = raw(|_, _| {});
    let broken = http(|_| answer(503, ""));
    let nobody = "http://127.0.0.1:9".to_owned();
    let page = |body: &str| {
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><IsTruncated>true</IsTruncated>{body}"
        )
    };
    const ENTRY: &str = "<Contents><Key>day/a</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified><ETag>&quot;1&quot;</ETag><Size>1</Size></Contents>";
    let whole = page(&format!("{ENTRY}<NextContinuationToken>again</NextContinuationToken></ListBucketResult>"));
    let endless = http(move |_| answer(200, &whole));
    let started = page("");
    let slow_list = raw(move |_, stream| {
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{started}").as_bytes());
        trickle(stream, ENTRY.as_bytes(), TICK);
    });
    let servers = [
        ("silent", &silent),
        ("slow head", &slow_head),
        ("slow body", &slow_body),
        ("slow parts", &slow_parts),
        ("slow error", &slow_error),
        ("endless error", &endless_error),
        ("closing", &closing),
        ("broken", &broken),
        ("nobody", &nobody),
        ("endless listing", &endless),
        ("slow listing", &slow_list),
    ];
    let operations: [(&str, &[&str]); 4] = [
        ("open and read", &["compare", &local, "s3://b/x.csv"]),
        ("link", &["compare", &local, "URL/x.csv?sig=1"]),
        ("list", &["compare", &local, "s3://b/day/"]),
        ("write", &["compare", &local, &local, "-o", "s3://b/out.txt"]),
    ];
    std::thread::scope(|scope| {
        for (server, url) in servers {
            scope.spawn(move || {
                for (operation, args) in operations {
                    let args: Vec<String> = args.iter().map(|arg| arg.replace("URL", url)).collect();
                    let args: Vec<&str> = args.iter().map(String::as_str).collect();
                    let begun = Instant::now();
                    let output = within("2s", url, &args);
                    let took = begun.elapsed();
                    let text = all_output(&output);
                    assert!(took < BOUND + SLACK, "{server}, {operation}: {took:?}: {text}");
                    // What a listing's server says to a write is an answer.
                    let answers = operation == "write"
                        && ["endless listing", "slow body", "slow parts", "slow listing"].contains(&server);
                    assert!(answers || matches!(output.status.code(), Some(3 | 7)), "{server}, {operation}: {text}");
                    assert!(!text.contains("5ecret"), "{server}, {operation}: {text}");
                }
            });
        }
    });
}

#[test]
fn a_store_that_never_answers_is_not_waited_for_once_for_each_of_its_files() {
    let folder = TempDir::new().unwrap();
    table(&folder);
    let silent = raw(|_, _| std::thread::sleep(Duration::from_secs(100)));
    let fleet = folder.path().join("fleet.toml");
    let models =
        (0..30).map(|i| format!("[[model]]\nname = \"m{i}\"\nbaseline = \"a.csv\"\ncurrent = \"s3://b/{i}.csv\"\n"));
    fs::write(&fleet, models.collect::<String>()).unwrap();
    let begun = Instant::now();
    let output = within("2s", &silent, &["sweep", fleet.to_str().unwrap(), "--no-state", "--threads", "1"]);
    // Each of its own it would be thirty times six seconds.
    assert!(begun.elapsed() < Duration::from_secs(70), "{:?}", begun.elapsed());
    let text = all_output(&output);
    assert!(text.contains("operations had failed before, the first of them so: the store cannot be reached"), "{text}");
    assert_eq!(output.status.code(), Some(11), "{text}");
}

#[test]
fn a_timeout_that_is_no_time_is_refused() {
    let folder = TempDir::new().unwrap();
    let local = table(&folder);
    for bad in ["0s", "soon", "-1s", "1000000h", ""] {
        let output = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
            .args(["compare", &local, "http://127.0.0.1:9/a.csv"])
            .env("DRIFTSWEEP_IO_TIMEOUT", bad)
            .output()
            .unwrap();
        assert!(
            all_output(&output).contains(&format!("DRIFTSWEEP_IO_TIMEOUT = '{bad}': it ")),
            "{}",
            all_output(&output)
        );
    }
}

#[test]
fn an_address_that_the_fleet_file_names_is_answered_within_ten_seconds_or_has_failed() {
    let silent = raw(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let slow = raw(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        trickle(stream, b"x", TICK);
    });
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for (name, url) in [("silent", silent), ("slow", slow)] {
            let file = folder.path().join(name);
            scope.spawn(move || {
                fs::write(&file, url).unwrap();
                let address = Endpoint::Secret(SecretSource::File(file)).read().unwrap();
                let begun = Instant::now();
                let failure = Http::new().unwrap().send(&address, &[], http::Request::get()).unwrap_err();
                assert!(
                    !failure.permanent && begun.elapsed() < Duration::from_secs(13),
                    "{name}: {:?}",
                    begun.elapsed()
                );
            });
        }
    });
}

#[test]
fn a_database_that_lets_nobody_in_is_not_waited_for() {
    let silent = raw(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let store = silent.replace("http://", "postgres://me:5ecret@") + "/db";
    let begun = Instant::now();
    let folder = TempDir::new().unwrap();
    let fleet = folder.path().join("fleet.toml");
    fs::write(&fleet, "name = \"f\"\n[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"a.csv\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    let output = command.args(["status"]).arg(&fleet).env("DRIFTSWEEP_STORE", &store).output().unwrap();
    assert_eq!(output.status.code(), Some(14), "{}", all_output(&output));
    assert!(begun.elapsed() < Duration::from_secs(26), "{:?}", begun.elapsed());
    assert!(
        all_output(&output).contains("does not answer within 20s") && !all_output(&output).contains("5ecret"),
        "{}",
        all_output(&output)
    );
}

/// A fleet file with a channel of webhooks whose secret is in `key`, and a training by a webhook with the same secret.
fn signing(folder: &TempDir, url: &str) -> PathBuf {
    let file = folder.path().join("fleet.toml");
    let text = format!(
        "name = \"flotte é.1\"\n[approval]\napprovers = [[\"ana\"]]\n[[notify]]\nname = \"ops\"\nwebhook = {{ url = \"{url}/chat\", \
         secret_file = \"key\" }}\n[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"a.csv\"\n[model.retrain]\nwebhook = \
         {{ url = \"{url}/train\", secret_file = \"key\" }}\n"
    );
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn secrets_that_cannot_sign_or_are_short_are_found() {
    let folder = TempDir::new().unwrap();
    table(&folder);
    let (url, _) = store();
    let fleet = signing(&folder, &url);
    let key = folder.path().join("key");
    fs::write(&key, "").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let long = STANDARD.encode([7; 65]);
    for (secret, wanted) in [
        ("whsec_no base64", Some("begins with whsec_, and what follows is not base64")),
        ("whsec_", Some("begins with whsec_, and what follows is not base64")),
        ("whsec_c2hvcnQ=", Some("the secret has 5 bytes; Standard Webhooks recommends 24 to 64")),
        ("twenty-three characters", Some("the secret has 23 bytes; Standard Webhooks recommends 24 to 64")),
        ("twenty-four characters..", None),
        (&format!("whsec_{long}"), Some("the secret has 65 bytes")),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
    ] {
        fs::write(&key, secret).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
            .args(["doctor", "--state"])
            .arg(folder.path().join("state"))
            .arg(&fleet)
            .output()
            .unwrap();
        let text = all_output(&output);
        for about in ["channel ops webhook", "m retrain.webhook"] {
            let line = text.lines().find(|line| line.contains(about));
            match wanted {
                Some(wanted) => {
                    let line = line.unwrap_or_else(|| panic!("nothing about {about}: {text}"));
                    assert!(line.contains(wanted) && line.contains("key: "), "{line}");
                    assert_eq!(line.contains("BROKEN"), wanted.contains("base64"), "{line}");
                }
                None => assert!(line.is_none(), "{line:?}"),
            }
        }
        assert!(!text.contains("no base64") && !text.contains("c2hvcnQ"), "{text}");
    }
}

#[test]
fn what_cannot_be_signed_is_not_sent_and_is_not_tried_again_by_itself() {
    let folder = TempDir::new().unwrap();
    let (url, kept) = store();
    let fleet = Fleet::read(&signing(&folder, &url), &Options::new()).unwrap();
    let mut store = Store::open(&folder.path().join("s.sqlite").display().to_string(), &fleet.name).unwrap();
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    let tell = |store: &mut Store| {
        let body = json!({ "model": "m", "trigger": "drift", "reason": "r" });
        let fact = AuditedFact { at: now, actor: "driftsweep", kind: "event.open", subject: "e", body };
        store.transaction(|store| notify::record(&fleet, store, fact).map(drop)).unwrap();
        notify::deliver(&fleet, store, &Http::new().unwrap(), now, &|| false).unwrap()
    };
    fs::write(folder.path().join("key"), "whsec_hunter2").unwrap();
    assert_eq!(tell(&mut store).dead, 1);
    let dead = store.messages_in("dead").unwrap();
    let reason = dead[0].error.clone().unwrap();
    assert!(reason.contains("key: the secret begins with whsec_") && !reason.contains("hunter2"), "{reason}");
    assert_eq!(kept.lock().unwrap().len(), 0, "nothing is sent unsigned");
    // One that is not there may come.
    fs::remove_file(folder.path().join("key")).unwrap();
    assert_eq!(tell(&mut store).put_off, 1);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    fs::write(folder.path().join("key"), secret).unwrap();
    assert_eq!(tell(&mut store).sent, 1);
    let sent = kept.lock().unwrap();
    assert_eq!(sent[0].headers["webhook-id"], "flotte %C3%A9%2E1-3");
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(&secret["whsec_".len()..]).unwrap()).unwrap();
    mac.update(format!("{}.{}.{}", sent[0].headers["webhook-id"], now.as_second(), sent[0].body).as_bytes());
    let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(sent[0].headers["webhook-signature"], wanted);
}

#[test]
fn a_lock_in_a_database_is_waited_for_no_longer_than_a_minute() {
    let Some(server) = crate::support::needs::postgres() else { return };
    let folder = TempDir::new().unwrap();
    table(&folder);
    let fleet = folder.path().join("fleet.toml");
    fs::write(&fleet, "name = \"f\"\n[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"a.csv\"\n").unwrap();
    // A database of its own: the others on the server are in use.
    let name = format!("locked{}", std::process::id());
    let store = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(&server).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        connection.execute(sqlx::query(sqlx::AssertSqlSafe(create))).await.unwrap();
    });
    drop(Store::open(&store, "f").unwrap());
    let _holder = runtime.block_on(async {
        let mut holder = AnyConnection::connect(&store).await.unwrap();
        for statement in ["BEGIN", "LOCK TABLE audit, event, model IN ACCESS EXCLUSIVE MODE"] {
            holder.execute(sqlx::query(statement)).await.unwrap();
        }
        holder
    });
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    let output = command.args(["events", "list"]).arg(&fleet).env("DRIFTSWEEP_STORE", &store).output().unwrap();
    assert_eq!(output.status.code(), Some(14), "{}", all_output(&output));
    assert!(all_output(&output).contains("lock timeout"), "{}", all_output(&output));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(50) && took < Duration::from_secs(75), "{took:?}");
}
