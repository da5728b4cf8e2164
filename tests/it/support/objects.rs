//! A server of the S3 protocol on the loopback interface, which fails on request.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

/// What goes wrong with every so-manieth request, but never twice with the same.
#[derive(Clone, Copy)]
pub struct Faults {
    pub error: usize,
    pub late: usize,
    pub cut: usize,
}

pub const NONE: Faults = Faults { error: usize::MAX, late: usize::MAX, cut: usize::MAX };

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    pub faulty: Arc<Mutex<HashSet<String>>>,
    pub _runtime: tokio::runtime::Runtime,
}

/// Serves a folder of buckets.
pub fn serve(root: &Path, faults: Faults) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("key", "correct-secret"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, faulty) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(HashSet::new())));
    let (counted, failed, root) = (requests.clone(), faulty.clone(), root.to_owned());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (service, counted, failed, root) = (service.clone(), counted.clone(), failed.clone(), root.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (service, failed) = (service.clone(), failed.clone());
                // A store has no folders; this one would fail on them.
                let is_folder = root.join(request.uri().path().trim_start_matches('/')).is_dir();
                let nth = counted.fetch_add(1, Ordering::Relaxed) + 1;
                async move {
                    let range = request.headers().get("range");
                    let name = format!("{} {} {range:?}", request.method(), request.uri());
                    let wrong = |every: usize| nth.is_multiple_of(every) && failed.lock().unwrap().insert(name.clone());
                    if wrong(faults.error) {
                        let status = if nth.is_multiple_of(2) { 500 } else { 503 };
                        let body = Body::from("<Error><Code>InternalError</Code></Error>".to_owned());
                        return Ok(Response::builder().status(status).body(body).unwrap());
                    }
                    if wrong(faults.late) {
                        // Longer than the client waits.
                        tokio::time::sleep(Duration::from_secs(4)).await;
                    }
                    if request.method() == hyper::Method::HEAD && is_folder {
                        return Ok(Response::builder().status(404).body(Body::empty()).unwrap());
                    }
                    let get = request.method() == hyper::Method::GET;
                    let mut response = service
                        .call(request.map(Body::from))
                        .await
                        .map_err(|e| std::io::Error::other(format!("{e:?}")))?;
                    if get && wrong(faults.cut) {
                        // Half of what was announced, then the connection is gone.
                        let whole = response.body_mut().store_all_limited(1 << 30).await.unwrap();
                        *response.body_mut() = Body::from(whole.slice(..whole.len() / 2));
                    }
                    Ok::<_, std::io::Error>(response)
                }
            });
            tokio::spawn(async move {
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
            });
        }
    });
    Server { address, requests, faulty, _runtime: runtime }
}

impl Server {
    pub fn command(&self, secret: &str, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_driftsweep"))
            .args(args)
            .env("AWS_ENDPOINT", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("DRIFTSWEEP_IO_TIMEOUT", "2s")
            .output()
            .unwrap()
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command("correct-secret", args)
    }
}
