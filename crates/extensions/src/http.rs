//! Requests to addresses that the fleet file names. The only user of reqwest except the client of object stores.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::value::{Secret, SecretSource, hmac_sha256};
use driftsweep_common::address::{REDACTED, sanitized};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result, error_chain};
use driftsweep_common::escape::for_display;
use driftsweep_common::runtime::BlockingRuntime;

/// An HTTP client. Requests have a timeout.
pub struct Http {
    runtime: BlockingRuntime,
    client: Client,
}

/// A key for signing requests. It cannot be printed.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// The key lengths in bytes that Standard Webhooks recommends.
    pub const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

    /// Reads the secret of a webhook: `whsec_` and base64, or any other text, whose own bytes are the key then.
    ///
    /// # Errors
    /// [`RequestFailure`]: permanent for a text that begins with `whsec_` and does not continue with base64; it names
    /// the variable or the file.
    pub fn read(source: &SecretSource) -> std::result::Result<Self, RequestFailure> {
        let secret = source.read()?;
        let Some(coded) = secret.expose().strip_prefix("whsec_") else {
            return Ok(Self(secret.expose().as_bytes().to_vec()));
        };
        match STANDARD.decode(coded) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(bytes)),
            _ => Err(RequestFailure::permanent(format!(
                "{source}: the secret begins with whsec_, and what follows is not base64; copy it again, with the = at its \
                 end"
            ))),
        }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, up to a limit.
    pub body: Vec<u8>,
    /// Secrets of the request that must not be shown if the response repeats them; `None` if nothing of the response
    /// may be shown.
    secrets: Option<Vec<String>>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    secrets: Vec<String>,
    /// The name of a header whose value cannot be sent.
    wrong_header: Option<String>,
}

/// Why a request failed. It never contains the address, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// What went wrong.
    pub reason: String,
    /// Whether a retry would fail, too.
    pub permanent: bool,
}

impl RequestFailure {
    /// A failure that may be resolved by a retry.
    pub fn transient(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), permanent: false }
    }

    /// A failure that a retry does not resolve.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), permanent: true }
    }
}

impl From<Error> for RequestFailure {
    /// Files, secrets and settings may be corrected at any time.
    fn from(error: Error) -> Self {
        Self::transient(error.to_string())
    }
}

/// The largest response body that is read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Request {
    /// A GET request.
    pub fn get() -> Self {
        Self { method: Method::GET, headers: HeaderMap::new(), body: None, secrets: Vec::new(), wrong_header: None }
    }

    /// A DELETE request.
    pub fn delete() -> Self {
        Self { method: Method::DELETE, ..Self::get() }
    }

    /// A POST request with JSON.
    pub fn post(body: &Value) -> Self {
        Self { method: Method::POST, ..Self::get() }.json(body)
    }

    /// A PUT request with a text in the format of Prometheus.
    pub fn put_metrics(text: Vec<u8>) -> Self {
        Self { method: Method::PUT, body: Some(text), ..Self::get() }.with("content-type", "text/plain; version=0.0.4")
    }

    /// A PATCH request with JSON.
    pub fn patch(body: &Value) -> Self {
        Self { method: Method::PATCH, ..Self::get() }.json(body)
    }

    fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self.with("content-type", "application/json")
    }

    /// With a header. A request with a name or a value that no header can have is not sent.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(name == AUTHORIZATION);
                self.headers.insert(name, value);
            }
            _ => self.wrong_header = Some(for_display(name).into_owned()),
        }
        self
    }

    /// With an authorization header.
    pub fn authorized(self, scheme: &str, credentials: &str) -> Self {
        self.with("authorization", &format!("{scheme} {credentials}")).hiding(credentials)
    }

    /// With a secret that must not be shown if the response repeats it.
    pub fn hiding(mut self, secret: &str) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Signed as specified by [Standard Webhooks](https://www.standardwebhooks.com): HMAC-SHA256 over name, time and
    /// body. A character of the name that no header can have is written as `%` and two digits, in the signature too. So
    /// is a dot: it is what separates the name from the time.
    pub fn signed(self, id: &str, at: Timestamp, key: Option<&SigningKey>) -> Self {
        let id = &header_text(id);
        let seconds = at.as_second().to_string();
        let signature = key.map(|SigningKey(bytes)| {
            let head = format!("{id}.{seconds}.");
            let mac = hmac_sha256(bytes, &[head.as_bytes(), self.body.as_deref().unwrap_or_default()]);
            format!("v1,{}", STANDARD.encode(mac))
        });
        let request = self.with("webhook-id", id).with("webhook-timestamp", &seconds);
        match signature {
            Some(signature) => request.with("webhook-signature", &signature),
            None => request,
        }
    }
}

impl Http {
    /// A client.
    ///
    /// # Errors
    /// [`Error::Backend`] where the client cannot be created.
    pub fn new() -> Result<Self> {
        let failed = |reason: String| Error::Backend(format!("no HTTP client: {reason}"));
        Ok(Self {
            runtime: BlockingRuntime::with_threads(1).map_err(|e| failed(e.to_string()))?,
            client: Client::builder()
                .timeout(TIMEOUT)
                // A signed request must not be redirected to another address.
                .redirect(redirect::Policy::none())
                .user_agent(concat!("driftsweep/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|e| failed(e.without_url().to_string()))?,
        })
    }

    /// Sends a request to an address, with path segments appended.
    ///
    /// # Errors
    /// [`RequestFailure`] if there was no response.
    pub fn send(
        &self,
        url: &Secret,
        below: &[&str],
        request: Request,
    ) -> std::result::Result<Response, RequestFailure> {
        if let Some(name) = request.wrong_header {
            // The value may be secret. It may be corrected at any time.
            let reason = format!(
                "the header '{name}' cannot be sent: its name or value has a character that headers cannot have"
            );
            return Err(RequestFailure::transient(reason));
        }
        let hidden = url.is_hidden();
        let mut url = Url::parse(url.expose())
            .map_err(|e| RequestFailure::permanent(format!("the address is not understood: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RequestFailure::permanent("the address must begin with https:// or http://"));
        }
        if !below.is_empty() {
            let mut segments =
                url.path_segments_mut().map_err(|()| RequestFailure::permanent("the address has no path"))?;
            segments.pop_if_empty().extend(below);
        }
        let mut builder = self.client.request(request.method, url).headers(request.headers);
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let answer = async {
            let mut response = builder.send().await?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                let room = MAX_BODY_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == MAX_BODY_BYTES {
                    break;
                }
            }
            Ok(Response { status, body, secrets: (!hidden).then_some(request.secrets) })
        };
        self.runtime
            .wait(answer)
            .map_err(|e: reqwest::Error| RequestFailure::transient(sanitized(&error_chain(&e.without_url()), &[])))
    }
}

/// Characters of a name in a header. Servers refuse a head that is too long; the rest of a longer name is its hash.
const MAX_HEADER_CHARS: usize = 512;

/// A name as a header can have it.
fn header_text(name: &str) -> String {
    let mut text = String::new();
    let last = name.len().saturating_sub(1);
    for (at, byte) in name.bytes().enumerate() {
        // Spaces at the ends of a header are removed in transit.
        let at_end = byte == b' ' && (at == 0 || at == last);
        match byte {
            b' '..=b'~' if !b"%.".contains(&byte) && !at_end => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    if text.len() > MAX_HEADER_CHARS {
        let hash = hex(&Sha256::digest(name));
        text.truncate(MAX_HEADER_CHARS - 1 - hash.len());
        text = format!("{text}-{hash}");
    }
    text
}

impl Response {
    /// The body of a successful response, as JSON; `null` where it is not JSON.
    ///
    /// # Errors
    /// [`RequestFailure`] for every other status; permanent if the request was wrong.
    pub fn json_if_success(&self) -> std::result::Result<Value, RequestFailure> {
        match self.status {
            200..300 => Ok(serde_json::from_slice(&self.body).unwrap_or_default()),
            status => {
                let reason = match &self.secrets {
                    // Many servers repeat the request in errors.
                    _ if (300..400).contains(&status) => {
                        format!("status {status}: it redirects, which is not followed; use the final address")
                    }
                    None => format!("status {status}"),
                    Some(_) if self.body.is_empty() => format!("status {status}"),
                    Some(secrets) => {
                        let text = String::from_utf8_lossy(&self.body).into_owned();
                        let text = secrets.iter().fold(text, |text, secret| without_secret(&text, secret));
                        let text: String = sanitized(&text, &[]).chars().take(200).collect();
                        format!("status {status}: {}", for_display(&text))
                    }
                };
                let permanent = (300..500).contains(&status) && ![408, 409, 423, 425, 429].contains(&status);
                Err(RequestFailure { reason, permanent })
            }
        }
    }
}

/// A text without a secret, in any form a server may have used: plain, JSON-escaped or URL-encoded.
fn without_secret(text: &str, secret: &str) -> String {
    let json = Value::from(secret).to_string();
    let url = Url::parse_with_params("http://x", [("", secret)]).ok();
    let encoded = url.as_ref().and_then(Url::query).unwrap_or_default().trim_start_matches('=');
    let forms = [secret, &json[1..json.len() - 1], encoded, &encoded.replace('+', "%20")];
    let forms = forms.into_iter().filter(|form| !form.is_empty());
    forms.fold(text.to_owned(), |text, form| text.replace(form, REDACTED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the specification's own libraries.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let key = SigningKey::read(&SecretSource::File(file)).unwrap();
        let mut request = Request::post(&json!(null));
        request.body = Some(br#"{"test": 2432232314}"#.to_vec());
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let signed = request.signed("msg_p5jXN8AQM9LWM0D4loKWxJek", at, Some(&key));
        assert_eq!(signed.headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn no_answer_shows_a_secret_however_it_is_written_there() {
        let secret = r#"x"q\z ö"#;
        let shown = [
            secret.to_owned(),
            json!({ "password": secret }).to_string(),
            "password=x%22q%5Cz+%C3%B6".into(),
            "/x%22q%5Cz%20%C3%B6/".into(),
        ];
        for body in shown {
            let secrets = Some(vec![secret.into(), String::new()]);
            let reason =
                Response { status: 400, body: body.into_bytes(), secrets }.json_if_success().unwrap_err().reason;
            assert!(reason.contains(REDACTED) && !reason.contains(['x', 'q', 'z', 'ö']), "{reason}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_an_error_that_does_not_show_it() {
        let http = Http::new().unwrap();
        let nobody = Secret::from("http://127.0.0.1:1/".to_owned());
        for bad in ["hunter2\nx: y", "hunter2\r", "hunter2\0"] {
            for request in [Request::get().authorized("Bearer", bad), Request::get().with("idempotency-key", bad)] {
                let failure = http.send(&nobody, &[], request).unwrap_err();
                assert!(failure.reason.contains("header '") && !failure.reason.contains("hunter2"), "{failure:?}");
            }
        }
        // Names come out of data.
        let signed = Request::get().signed("flotte é\n%-5", Timestamp::UNIX_EPOCH, None);
        assert_eq!(signed.headers["webhook-id"], "flotte %C3%A9%0A%25-5");
        assert_eq!(signed.wrong_header, None);
    }

    #[test]
    fn names_of_every_kind_are_verified_by_another_library() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        // With its prefix the text stands for bytes; without, it is the bytes.
        let coded = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let plain = "not base64 at all: ü";
        let now = Timestamp::now();
        let long = "ü".repeat(5000);
        let names = ["flotte-é-5", "🚂-1", "a\r\nx-evil: 1", "100%-2", "%0A", "a.b.1790000000.{}", " a ", "", &long];
        let mut seen = std::collections::HashSet::new();
        for name in names {
            for secret in [coded, plain] {
                std::fs::write(&file, secret).unwrap();
                let key = SigningKey::read(&SecretSource::File(file.clone())).unwrap();
                let request = Request::post(&json!({ "name": name })).signed(name, now, Some(&key));
                assert_eq!(request.wrong_header, None, "{name:.30}");
                let receiver = match secret == coded {
                    true => standardwebhooks::Webhook::new(secret),
                    false => standardwebhooks::Webhook::from_bytes(secret.into()),
                };
                let body = request.body.clone().unwrap();
                receiver.unwrap().verify(&body, &request.headers).unwrap_or_else(|e| panic!("{name:.30}: {e}"));
                let id = request.headers["webhook-id"].to_str().unwrap();
                assert!(id.len() <= MAX_HEADER_CHARS && !id.contains('.') && id.trim() == id, "{id}");
                seen.insert(id.to_owned());
            }
        }
        assert_eq!(seen.len(), names.len(), "names stay apart");
    }

    #[test]
    fn a_secret_that_is_no_base64_behind_its_prefix_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hook.secret");
        for bad in ["whsec_", "whsec_hunter2", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsec_hunter 2="] {
            std::fs::write(&file, bad).unwrap();
            let failure = SigningKey::read(&SecretSource::File(file.clone())).map(|_| ()).unwrap_err();
            assert!(failure.permanent && failure.reason.contains("hook.secret"), "{failure:?}");
            assert!(!failure.reason.contains("hunter2"), "{failure:?}");
        }
        std::fs::remove_file(&file).unwrap();
        let failure = SigningKey::read(&SecretSource::File(file)).map(|_| ()).unwrap_err();
        assert!(!failure.permanent, "a file may come: {failure:?}");
    }

    #[test]
    fn no_failure_names_the_address() {
        let http = Http::new().unwrap();
        for url in ["http://user:hunter2@127.0.0.1:1/hook?key=hunter2", "hunter2", "ftp://hunter2/", "http://[hunter2"]
        {
            let failure = http.send(&Secret::from(url.to_owned()), &["x"], Request::get()).unwrap_err();
            assert!(!failure.reason.contains("hunter2"), "{failure:?}");
        }
    }
}
