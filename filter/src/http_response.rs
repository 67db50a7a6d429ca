//! The answer to an HTTP call, as the host gives it in the call's callback.

use picket_core::token::remote_keys::response::{DOCUMENT_BYTES_MAX, FetchError, HttpResponse};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::host::{HeaderMap, HostFailure};

/// Reads the answer to an HTTP call and passes it to `take`, as it borrows from host memory.
///
/// `headers` and `body_bytes` are the arguments of the callback.
pub(crate) fn with_http_response<T>(
    headers: usize,
    body_bytes: usize,
    take: impl FnOnce(Result<HttpResponse<'_>, FetchError>) -> T,
) -> T {
    let read = ReadResponse::read(headers, body_bytes);
    let headers = read.as_ref().map(|read| read.headers.headers());
    take(match (&read, &headers) {
        (Ok(read), Ok(Ok(headers))) => Ok(HttpResponse {
            headers,
            body: &read.body,
        }),
        // Either the host gave nothing, or something else than the ABI says.
        (Ok(_) | Err(_), _) => Err(FetchError::EndpointUnreachable),
    })
}

/// The bytes of an answer, as the host gave them.
struct ReadResponse {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl ReadResponse {
    fn read(headers: usize, body_bytes: usize) -> Result<Self, HostFailure> {
        // No headers: the connection broke, or the host gave up.
        if headers == 0 {
            return Err(HostFailure);
        }
        let headers = HeaderMap::read(MapType::HttpCallResponseHeaders)?;
        // One byte more than is allowed shows that it is too long.
        let read_bytes = body_bytes.min(DOCUMENT_BYTES_MAX + 1);
        let body = match read_bytes {
            0 => None,
            _ => hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, read_bytes).map_err(|_| HostFailure)?,
        };
        Ok(Self {
            headers,
            body: body.unwrap_or_default(),
        })
    }
}
