//! An issuer's introspection endpoint (RFC 7662). It misbehaves when it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::stack::Options;
use crate::token::AUDIENCE;

/// Who its tokens are from.
pub const ISSUER: &str = "https://as.example";
/// The client that may ask.
pub const CLIENT_ID: &str = "orders sidecar";
/// Its secret: with characters that the form-encoding of RFC 6749 §2.3.1 changes.
pub const SECRET: &str = "s3:cr%t+Introspection";
const PATH: &str = "/introspect";

/// What it does with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers by what it knows of the token.
    Answers,
    /// Holds it until it behaves otherwise, and then does that.
    Holds,
    /// Answers this status and body.
    Says(u16, String),
    /// Closes the connection.
    Closes,
}

/// A running endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct IntrospectionServer {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    known: Arc<Known>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Active tokens, and what is known of them.
    tokens: Mutex<BTreeMap<String, Value>>,
    questions: AtomicU64,
}

impl IntrospectionServer {
    /// Starts listening. It knows no token yet.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .context("cannot listen")?;
        let (behaviour, watched) = watch::channel(Behaviour::Answers);
        let known = Arc::new(Known::default());
        Ok(Self {
            address: listener.local_addr()?,
            behaviour,
            known: Arc::clone(&known),
            accepts: tokio::spawn(accept(listener, watched, known)),
        })
    }

    /// Makes a token of this subject active for an hour, with these members besides.
    pub fn issue(&self, token: &str, subject: &str, members: &Map<String, Value>) {
        let mut known = json!({
            "active": true, "sub": subject, "aud": AUDIENCE, "iss": ISSUER, "client_id": "web",
            "exp": clock::now_s().saturating_add(3600),
        });
        crate::token::merge(&mut known, members);
        self.tokens().insert(token.to_owned(), known);
    }

    /// The token is active no more.
    pub fn revoke(&self, token: &str) {
        self.tokens().remove(token);
    }

    /// From now on it does this, also with questions that it holds.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How often it was asked.
    pub fn questions(&self) -> u64 {
        self.known.questions.load(Ordering::SeqCst)
    }

    /// A stack whose sidecar asks it, beside the provider with keys, with these further members of `introspection` as YAML.
    #[must_use]
    pub fn asked_by(&self, options: Options, cluster: &str, secret: &str, further: &str) -> Options {
        let provider = format!(
            "                    - {{ name: opaque, issuer: \"{ISSUER}\", audiences: [ {AUDIENCE} ], introspection: {{ \
             uri: \"{ISSUER}{PATH}\", cluster: {cluster}, client_id: \"{CLIENT_ID}\", secret_variable: AS_SECRET{further} }} }}\n"
        );
        let variables = format!("environment_variables: {{ key_values: {{ AS_SECRET: \"{secret}\" }} }}");
        let endpoint = format!(
            "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }} }}",
            self.address.port()
        );
        let clusters = [("as", endpoint.as_str()), ("as_empty", "")].map(|(name, endpoints)| {
            format!(
                "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n    load_assignment:\n      \
                 cluster_name: {name}\n      endpoints: [ {{ lb_endpoints: [ {endpoints} ] }} ]\n"
            )
        });
        let (providers, vm, application) = (
            "                    providers:\n",
            "                  vm_id: picket\n",
            "  # The application itself, on loopback, in HTTP/1.1.\n",
        );
        options
            .edit(providers, &format!("{providers}{provider}"))
            .edit(vm, &format!("{vm}                  {variables}\n"))
            .edit(application, &format!("{}{application}", clusters.concat()))
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.known.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IntrospectionServer {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn accept(listener: TcpListener, behaviour: watch::Receiver<Behaviour>, known: Arc<Known>) {
    loop {
        // An error here is about one connection that was gone before it was accepted.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, behaviour.clone(), Arc::clone(&known)));
        }
    }
}

async fn serve(stream: TcpStream, behaviour: watch::Receiver<Behaviour>, known: Arc<Known>) {
    let service = service_fn(move |request| answer(request, behaviour.clone(), Arc::clone(&known)));
    // A connection that breaks is the client's affair, or was to break.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An error closes the connection.
async fn answer(
    request: Request<Incoming>,
    mut behaviour: watch::Receiver<Behaviour>,
    known: Arc<Known>,
) -> Result<Response<Full<Bytes>>> {
    known.questions.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let behaviour = behaviour.wait_for(|it| *it != Behaviour::Holds).await?.clone();
    match behaviour {
        Behaviour::Says(status, text) => document(status, text),
        Behaviour::Holds | Behaviour::Closes => bail!("closed"),
        Behaviour::Answers => {
            let is_question = head.method == Method::POST
                && head.uri.path() == PATH
                && head
                    .headers
                    .get(CONTENT_TYPE)
                    .is_some_and(|it| it == "application/x-www-form-urlencoded");
            if !is_question {
                return document(400, json!({"error": "invalid_request"}).to_string());
            }
            let credentials = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
            if credentials.and_then(client).as_deref() != Some(&*format!("{CLIENT_ID}:{SECRET}")) {
                // A client that looked at the body alone would be lost.
                return document(
                    401,
                    json!({"active": true, "sub": "mallory", "aud": AUDIENCE}).to_string(),
                );
            }
            let form = String::from_utf8(body.to_vec())?;
            let token = form.split('&').find_map(|pair| pair.strip_prefix("token="));
            let token = decoded(token.context("no token")?)?;
            let tokens = known.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let inactive = json!({ "active": false });
            document(200, tokens.get(&token).unwrap_or(&inactive).to_string())
        }
    }
}

/// The client's id and secret (RFC 6749 §2.3.1).
fn client(authorization: &[u8]) -> Option<String> {
    let encoded = authorization.strip_prefix(b"Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some(format!("{}:{}", decoded(id).ok()?, decoded(secret).ok()?))
}

/// A text in `application/x-www-form-urlencoded`.
fn decoded(text: &str) -> Result<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).context("cut short")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend(rest.replace('+', " ").into_bytes());
    }
    Ok(String::from_utf8(bytes)?)
}

fn document(status: u16, text: String) -> Result<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status.try_into()?;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{client, decoded};

    #[test]
    fn reads_what_a_client_encodes() {
        // RFC 6749 Appendix B.
        assert_eq!(decoded("+%25%26%2B%C2%A3%E2%82%AC").unwrap(), " %&+£€");
        decoded("%4").unwrap_err();
        // RFC 6749 §2.3.1.
        assert_eq!(
            client(b"Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3").as_deref(),
            Some("s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw")
        );
    }
}
