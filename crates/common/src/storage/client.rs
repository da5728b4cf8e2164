//! The HTTP client for object stores: which redirects are followed, and which part of an error response is kept.

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, NoProxy, Proxy};
use url::Url;

use crate::duration::Length;

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Bytes of an error response that are searched for its code.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Makes clients for one store.
#[derive(Debug)]
pub struct Connector {
    /// The timeout of a request.
    pub timeout: Duration,
    /// Whether requests carry credentials: then they must not go to another origin.
    pub credentials: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "HTTP", source };
        let get = |key: ClientConfigKey| options.get_config_value(&key);
        let is = |key: ClientConfigKey| {
            get(key).is_some_and(|value| ["1", "true", "on", "yes", "y"].contains(&&*value.to_lowercase()))
        };
        let credentials = self.credentials;
        // Shorter for metadata servers of a cloud: they do not exist elsewhere.
        let connect = get(ClientConfigKey::ConnectTimeout).and_then(|text| text.parse().ok()).map(Length::unsigned);
        let mut builder = Client::builder()
            .user_agent(concat!("driftsweep/", env!("CARGO_PKG_VERSION")))
            .timeout(self.timeout)
            .connect_timeout(self.timeout.min(connect.unwrap_or(CONNECT)))
            // The address of a signed link is a secret that must not be sent to another origin.
            .referer(false)
            .redirect(Policy::custom(move |attempt| follow(attempt, credentials)))
            // The content length must be that of the object.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .https_only(!is(ClientConfigKey::AllowHttp))
            .danger_accept_invalid_certs(is(ClientConfigKey::AllowInvalidCertificates));
        if let Some(address) = get(ClientConfigKey::ProxyUrl) {
            let mut proxy = Proxy::all(address).map_err(|e| failed(Box::new(e.without_url())))?;
            if let Some(certificate) = get(ClientConfigKey::ProxyCaCertificate) {
                let certificate = reqwest::tls::Certificate::from_pem(certificate.as_bytes());
                builder = builder.add_root_certificate(certificate.map_err(|e| failed(Box::new(e.without_url())))?);
            }
            if let Some(excludes) = get(ClientConfigKey::ProxyExcludes) {
                proxy = proxy.no_proxy(NoProxy::from_string(&excludes));
            }
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|e| failed(Box::new(e.without_url())))?;
        Ok(HttpClient::new(Service { client, credentials }))
    }
}

/// The timeout of a connection, after which it is retried.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a redirect is not followed. It only names origins: the rest of an address may be secret.
#[derive(Debug)]
struct RedirectRefused(String);

impl std::fmt::Display for RedirectRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedirectRefused {}

/// Follows a redirect within an origin. To another origin it is followed only by requests without credentials, and never from
/// https to http.
fn follow(attempt: Attempt<'_>, credentials: bool) -> reqwest::redirect::Action {
    let Some(from) = attempt.previous().first() else { return attempt.stop() };
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(RedirectRefused(format!("more than {MAX_REDIRECTS} redirects")));
    }
    match refusal(from, attempt.url(), credentials) {
        Some(reason) => attempt.error(RedirectRefused(reason)),
        None => attempt.follow(),
    }
}

fn refusal(from: &Url, to: &Url, credentials: bool) -> Option<String> {
    let origin = |url: &Url| url.origin().ascii_serialization();
    let same = from.origin() == to.origin();
    let why = if from.scheme() == "https" && to.scheme() != "https" {
        "to an address that is not encrypted"
    } else if credentials && !same {
        "a request with credentials to another origin"
    } else {
        return None;
    };
    Some(format!(
        "{} redirects {why}, {}, which is not followed; name the address that has the data, or correct the endpoint or region",
        origin(from),
        origin(to)
    ))
}

/// Sends requests.
#[derive(Debug)]
struct Service {
    client: Client,
    credentials: bool,
}

type ResponseFuture<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Service {
    // What the trait's macro makes of an `async fn`.
    fn call<'a, 'async_trait>(&'a self, request: HttpRequest) -> ResponseFuture<'async_trait>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let request = with_user(request)?;
            let from = Url::parse(&request.uri().to_string()).ok();
            let answer = HttpService::call(&self.client, request).await?;
            match from.and_then(|from| self.not_followed(&from, &answer)) {
                Some(reason) => Err(HttpError::new(HttpErrorKind::Unknown, RedirectRefused(reason))),
                None => without_body(answer).await,
            }
        })
    }
}

impl Service {
    /// Why a redirect is returned to the caller: a request body cannot be sent twice.
    fn not_followed(&self, from: &Url, answer: &HttpResponse) -> Option<String> {
        let to = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
        let to = from.join(to.to_str().ok()?).ok()?;
        Some(refusal(from, &to, self.credentials).unwrap_or_else(|| {
            format!(
                "{} redirects a write, which is not followed; name the address itself",
                from.origin().ascii_serialization()
            )
        }))
    }
}

/// A request with the user and password of its address in an HTTP header.
fn with_user(mut request: HttpRequest) -> Result<HttpRequest, HttpError> {
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| {
        HttpError::new(HttpErrorKind::Unknown, RedirectRefused(e.to_string()))
    };
    let mut url = Url::parse(&request.uri().to_string()).map_err(|e| wrong(e.into()))?;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(request);
    }
    let pair =
        [url.username(), url.password().unwrap_or_default()].map(|part| percent_decode_str(part).collect::<Vec<u8>>());
    let pair = STANDARD.encode(pair.join(&b':'));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).map_err(|e| wrong(e.into()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    *request.uri_mut() = url.as_str().parse().map_err(|_| wrong("the address is not understood".into()))?;
    Ok(request)
}

/// An error response without its body, which may repeat the request with its credentials: only the error code and the
/// request id are kept.
async fn without_body(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    if answer.status().is_success() || answer.status().is_redirection() {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let mut stream = body.bytes_stream();
    let mut found = Vec::new();
    while let Some(Ok(part)) = stream.next().await {
        found.extend_from_slice(&part[..part.len().min(MAX_ERROR_BYTES - found.len())]);
        if found.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&found);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let code = within(&text, "Code").or_else(|| header("x-ms-error-code").and_then(word));
    let number = within(&text, "RequestId").or_else(|| {
        ["x-amz-request-id", "x-ms-request-id", "x-guploader-uploadid"].into_iter().find_map(|name| word(header(name)?))
    });
    let known = [code.map(|code| format!("code {code}")), number.map(|number| format!("request {number}"))];
    let said: Vec<String> = known.into_iter().flatten().collect();
    // These headers described the removed body.
    for name in ["content-length", "transfer-encoding", "content-encoding"] {
        parts.headers.remove(name);
    }
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(said.join(", "))))
}

/// The content of the first element of an XML document with this name, if it is a word.
fn within<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    word(rest.split_once(&format!("</{name}>"))?.0)
}

/// A code or id in the usual form; anything else is not shown.
fn word(text: &str) -> Option<&str> {
    const MAX_WORD_CHARS: usize = 64;
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!text.is_empty() && text.len() <= MAX_WORD_CHARS && text.chars().all(fine)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_refused_where_it_would_take_credentials_elsewhere() {
        for (from, to, credentials, followed) in [
            ("https://a/x", "https://a/y", true, true),
            ("https://a/x", "https://a:443/y", true, true),
            ("https://a/x", "https://a:8443/y", true, false),
            ("https://a/x", "https://b/x", true, false),
            ("https://a/x", "https://b/x", false, true),
            ("http://a/x", "https://a/x", true, false),
            ("http://a/x", "https://a/x", false, true),
            ("https://a/x", "http://a/x", false, false),
            ("https://a/x", "http://a/x", true, false),
        ] {
            let [from, to] = [from, to].map(|url| Url::parse(&format!("{url}?sig=SECRET")).unwrap());
            let found = refusal(&from, &to, credentials);
            assert_eq!(found.is_none(), followed, "{from} {to} {credentials}: {found:?}");
            if let Some(reason) = found {
                assert!(!reason.contains("SECRET") && reason.contains("redirects"), "{reason}");
                assert!(reason.contains(&from.origin().ascii_serialization()), "{reason}");
                assert!(reason.contains(&to.origin().ascii_serialization()), "{reason}");
            }
        }
    }

    #[test]
    fn only_words_are_kept_of_a_body() {
        let body = "<Error><Code>ExpiredToken</Code><RequestId>4442587FB7D0A2F9</RequestId><X>SECRET</X></Error>";
        assert_eq!((within(body, "Code"), within(body, "RequestId")), (Some("ExpiredToken"), Some("4442587FB7D0A2F9")));
        for body in ["<Code>a b</Code>", "<Code></Code>", "<Code>x", "", "<Code><a>x</a></Code>"] {
            assert_eq!(within(body, "Code"), None, "{body}");
        }
    }
}
