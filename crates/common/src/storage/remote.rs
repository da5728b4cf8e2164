//! Objects: S3, Google Cloud Storage, Azure and plain HTTP, through the `object_store` crate. Credentials and endpoints
//! come from the environment, by the names that each provider's own tools use.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, GetOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload, RetryConfig,
};
use sha2::{Digest, Sha256};
use url::Url;

use super::client::Connector;
use super::timeouts::{locked, timeout, wait, wait_after};
use super::{ListedObject, StoredObject};
use crate::address::{sanitized, secrets_of, split_query};
use crate::atomic::hex;
use crate::error::{Error, Result, error_chain};

/// Variables with these prefixes configure the stores.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// One connection pool per store.
static STORES: Mutex<Option<HashMap<String, Arc<dyn ObjectStore>>>> = Mutex::new(None);

/// How often a range of an open object is requested.
const ATTEMPTS: u32 = 4;

/// Most objects in a listing: an endless one must not fill the memory.
const MAX_OBJECTS: usize = 1_000_000;

/// Why a request failed, after the retries of the library.
pub enum StorageFailure {
    NotFound,
    /// A retry would fail, too.
    Final(String),
    Other(String),
}

impl StorageFailure {
    pub fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        Self::Final(match error {
            E::NotFound { .. } => return Self::NotFound,
            E::Unauthenticated { .. } => {
                "the store does not accept the credentials; check those in the environment (AWS_*, AZURE_*, GOOGLE_*)"
                    .into()
            }
            E::PermissionDenied { .. } => {
                "the store denies access; the credentials need the right to list, read or write here, and a signed link \
                 expires"
                    .into()
            }
            E::Precondition { .. } | E::NotModified { .. } => {
                "the object was changed while it was read; run again, or write snapshots under new names".into()
            }
            other => return Self::Other(format!("the store cannot be reached or refuses: {}", error_chain(other))),
        })
    }

    fn into_error(self, address: &str) -> Error {
        match self {
            Self::NotFound => Error::NotFound { path: address.into() },
            other => Error::Unreadable { path: address.into(), reason: other.into_reason(address) },
        }
    }

    fn into_reason(self, address: &str) -> String {
        match self {
            Self::NotFound => "the object is gone".into(),
            Self::Final(reason) | Self::Other(reason) => {
                // A short secret could be part of a word.
                let secrets: Vec<&str> = secrets_of(address).into_iter().filter(|secret| secret.len() > 3).collect();
                sanitized(&reason, &secrets)
            }
        }
    }
}

/// The store of an address, the key in it, and what comes before the key in an address.
fn locate(address: &str) -> std::result::Result<(Arc<dyn ObjectStore>, Key, String), StorageFailure> {
    let bad = |reason: String| StorageFailure::Other(format!("not an address of an object: {reason}"));
    let url = Url::parse(address).map_err(|e| bad(e.to_string()))?;
    if split_query(address).1.is_some() {
        // The signature is valid only for exactly this address, and no other credentials are needed.
        return match url.scheme() {
            "http" | "https" => Ok((connect(&ObjectStoreScheme::Http, &url)?, Key::default(), String::new())),
            scheme => Err(bad(format!("{scheme}:// takes no query; give the https:// address of a signed link"))),
        };
    }
    let (scheme, key) = ObjectStoreScheme::parse(&url).map_err(|e| bad(error_chain(&e)))?;
    let key = Key::parse(key).map_err(|e| bad(error_chain(&e)))?;
    // The account, bucket or container: the part before the key.
    let folders = url.path_segments().map_or(0, |parts| parts.filter(|part| !part.is_empty()).count());
    let container = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty());
    let mut base = format!("{}/", &url[..url::Position::BeforePath]);
    for part in container.take(folders.saturating_sub(key.parts().count())) {
        base.push_str(part);
        base.push('/');
    }
    let mut stores = locked(&STORES);
    let stores = stores.get_or_insert_default();
    if let Some(store) = stores.get(&base) {
        return Ok((store.clone(), key, base));
    }
    let store = connect(&scheme, &url)?;
    stores.insert(base.clone(), store.clone());
    Ok((store, key, base))
}

/// A store with the settings of the environment.
fn connect(scheme: &ObjectStoreScheme, url: &Url) -> std::result::Result<Arc<dyn ObjectStore>, StorageFailure> {
    let timeout = timeout()?;
    let variables = std::env::vars().filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    let settings = variables
        .map(|(name, value)| (name.to_lowercase(), value))
        .chain([("timeout".into(), format!("{} ms", timeout.as_millis()))])
        .chain((url.scheme() == "http").then(|| ("allow_http".into(), "true".into())));
    // The last attempt begins within twice the timeout, and so ends within three times the timeout.
    let backoff = BackoffConfig { max_backoff: timeout.min(Duration::from_secs(15)), ..BackoffConfig::default() };
    let retry = RetryConfig { retry_timeout: 2 * timeout, backoff, ..RetryConfig::default() };
    let is_plain = *scheme == ObjectStoreScheme::Http;
    // A signature in a query is not sent to the target of a redirect; a user and a password would be.
    let credentials = !is_plain || !url.username().is_empty() || url.password().is_some();
    macro_rules! store {
        ($builder:expr) => {{
            let builder = settings.fold($builder, |builder, (name, value)| match name.parse() {
                Ok(name) => builder.with_config(name, value),
                // Not a setting of this store.
                Err(_) => builder,
            });
            builder
                .with_retry(retry)
                .with_http_connector(Connector { timeout, credentials })
                .build()
                .map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
        }};
    }
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => store!(AmazonS3Builder::new().with_url(url.as_str())),
        ObjectStoreScheme::GoogleCloudStorage => store!(GoogleCloudStorageBuilder::new().with_url(url.as_str())),
        ObjectStoreScheme::MicrosoftAzure => store!(MicrosoftAzureBuilder::new().with_url(url.as_str())),
        _ if url.query().is_some() => store!(HttpBuilder::new().with_url(&url[..url::Position::AfterQuery])),
        _ => store!(HttpBuilder::new().with_url(&url[..url::Position::BeforePath])),
    };
    store.map_err(|e| StorageFailure::of(&e))
}

/// An object that exists.
pub struct Object {
    store: Arc<dyn ObjectStore>,
    key: Key,
    /// Its address, as given.
    address: String,
    /// Request options that select exactly the object that was opened.
    same: GetOptions,
}

impl Object {
    pub fn open(path: &Path) -> Result<(Self, u64, String)> {
        let address = path.to_string_lossy();
        let open = || {
            let (store, key, _) = locate(&address)?;
            let found = match split_query(&address).1 {
                // A link is signed for one method, usually `GET`.
                Some(_) => wait(&address, async { Ok(store.get_opts(&key, first_byte()).await?.meta) })?,
                None => wait(&address, store.head(&key))?,
            };
            let version = found.e_tag.clone().unwrap_or_else(|| found.last_modified.to_rfc3339());
            // A weak tag never matches in a request.
            let tag = found.e_tag.filter(|tag| !tag.starts_with("W/"));
            let unmodified = tag.is_none().then_some(found.last_modified);
            let same = GetOptions { if_match: tag, if_unmodified_since: unmodified, ..GetOptions::default() };
            Ok((Self { store, key, address: address.clone().into_owned(), same }, found.size, version))
        };
        open().map_err(|refusal: StorageFailure| refusal.into_error(&address))
    }

    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::result::Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let wanted = bytes.len();
        let range = offset..offset + wanted as u64;
        let options = GetOptions { range: Some(range.into()), ..self.same.clone() };
        // As a stream: an endless body must not fill the memory.
        let get = async |bytes: &mut [u8]| {
            let mut body = self.store.get_opts(&self.key, options.clone()).await?.into_stream();
            let mut found = 0;
            while let Some(part) = body.try_next().await? {
                let to = bytes.get_mut(found..).and_then(|left| left.get_mut(..part.len()));
                found += part.len();
                let Some(to) = to else { break };
                to.copy_from_slice(&part);
            }
            Ok(found)
        };
        // The library retries requests, but an interrupted body only if the store gives entity tags.
        let last = Mutex::new(None);
        let attempts = async {
            let mut attempts = 1;
            loop {
                let reason = match get(bytes).await {
                    Ok(found) if found == wanted => return Ok(None),
                    Ok(found) => format!("{found} bytes were received instead of {wanted}"),
                    Err(error) => match StorageFailure::of(&error) {
                        StorageFailure::NotFound | StorageFailure::Final(_) => return Err(error),
                        StorageFailure::Other(_) if attempts == ATTEMPTS => return Err(error),
                        StorageFailure::Other(reason) => reason,
                    },
                };
                if attempts == ATTEMPTS {
                    return Ok(Some(reason));
                }
                *locked(&last) = Some(reason);
                attempts += 1;
            }
        };
        match wait_after(&self.address, attempts, &last) {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(StorageFailure::Other(reason).into_reason(&self.address)),
            Err(refusal) => Err(refusal.into_reason(&self.address)),
        }
    }
}

/// The store of an address and the key in it, for libraries that read objects themselves.
///
/// # Errors
/// [`Error::Unreadable`]: the address is none, or a signed link, which is not read in this way.
pub fn object(path: &Path) -> Result<StoredObject> {
    let address = path.to_string_lossy();
    let found = match split_query(&address).1 {
        Some(_) => {
            Err(StorageFailure::Final("a signed link cannot be read here; give the address of the object".into()))
        }
        None => locate(&address),
    };
    let (store, key, base) = found.map_err(|refusal: StorageFailure| refusal.into_error(&address))?;
    let name = Sha256::digest(base.as_bytes());
    Ok(StoredObject { store, store_name: hex(&name[..8]), key: escaped(&key) })
}

fn first_byte() -> GetOptions {
    GetOptions { range: Some((0..1).into()), ..GetOptions::default() }
}

/// Writes an object. It is visible only when it is complete.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let address = path.to_string_lossy();
    let put = || {
        let (store, key, _) = locate(&address)?;
        wait(&address, store.put(&key, PutPayload::from(bytes.to_vec())))
    };
    let failed = |reason: String| Error::Write { path: path.into(), source: std::io::Error::other(reason) };
    put().map(|_| ()).map_err(|refusal| failed(refusal.into_reason(&address)))
}

/// A key as part of an address: characters with a meaning in an address are escaped.
fn escaped(key: &Key) -> String {
    key.as_ref().replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}

/// The objects below an address, sorted.
pub fn list(folder: &str) -> Result<Vec<ListedObject>> {
    let list = || {
        if split_query(folder).1.is_some() {
            return Err(StorageFailure::Final("a signed link is one object; there is nothing below it to list".into()));
        }
        let (store, key, base) = locate(folder)?;
        let all = async || {
            let mut found = Vec::new();
            let mut listed = store.list(Some(&key));
            while let Some(object) = listed.try_next().await? {
                if found.len() == MAX_OBJECTS {
                    return Ok(None);
                }
                found.push(object);
            }
            Ok(Some(found))
        };
        let last = Mutex::new(None);
        let listing = async {
            match all().await {
                // Retried once, for an interrupted listing.
                Err(error) if let StorageFailure::Other(reason) = StorageFailure::of(&error) => {
                    *locked(&last) = Some(reason);
                    all().await
                }
                found => found,
            }
        };
        let found = wait_after(folder, listing, &last)?.ok_or_else(|| {
            StorageFailure::Final(format!(
                "there are more than {MAX_OBJECTS} objects below it; name a folder nearer to the data"
            ))
        })?;
        let listed = |location: &Key| {
            let below = location.as_ref().strip_prefix(key.as_ref()).unwrap_or(location.as_ref());
            let path = format!("{base}{}", escaped(location)).into();
            ListedObject { path, below: below.trim_start_matches('/').into() }
        };
        let mut listed: Vec<ListedObject> = found.iter().map(|object| listed(&object.location)).collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        if listed.is_empty() { Err(StorageFailure::NotFound) } else { Ok(listed) }
    };
    list().map_err(|refusal: StorageFailure| refusal.into_error(folder))
}

/// Whether there is an object below an address with a wanted name.
pub fn has_object(folder: &str, wanted: impl Fn(&str) -> bool + Sync) -> bool {
    let find = || {
        let (store, key, _) = locate(folder)?;
        wait(folder, async {
            let mut listed = store.list(Some(&key)).take(MAX_OBJECTS);
            while let Some(object) = listed.try_next().await? {
                if object.location.filename().is_some_and(&wanted) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    };
    find().is_ok_and(|found: bool| found)
}
