//! The host calls that each request makes, without the copies that the SDK makes of what they take
//! and give, and those of shared data, of other contexts and of a call's status, without its
//! panics.
//!
//! The only unsafe code: functions of proxy-wasm's ABI 0.2.1. The SDK's own wrappers make two
//! allocations for each header and three for each property; all other host calls go through it.
#![expect(unsafe_code, reason = "calls of the host's functions, whose pointers it fills in")]

use picket_core::request::Header;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, MapType};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: MapType,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: MapType, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, version: u32)
    -> u32;
    fn proxy_get_status(code: *mut u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
}

/// The host's number of a context: of the plugin in a worker, or of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextId(pub(crate) u32);

/// The path of a property, its parts joined by NUL.
#[derive(Clone, Copy)]
pub(crate) struct PropertyPath(pub(crate) &'static str);

/// All headers of a map, as the host wrote them: a number of pairs, their sizes, then names and
/// values, each with a NUL.
pub(crate) struct HeaderMap(Vec<u8>);

/// A value of the data that all VMs of this id share, with its version.
pub(crate) struct SharedValue {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: u32,
}

/// Why a shared value was not written.
#[derive(Debug)]
pub(crate) enum SharedWriteError {
    /// Another VM wrote it since it was read.
    Raced,
    /// The host refused it.
    Host,
}

/// The host failed a call, or gave something else than the ABI specifies.
#[derive(Debug)]
pub(crate) struct HostFailure;

impl HeaderMap {
    /// Reads a map in one call.
    pub(crate) fn read(map: MapType) -> Result<Self, HostFailure> {
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: both pointers are valid for the call, which is all that the host keeps them for.
        let status = unsafe { proxy_get_header_map_pairs(map, &mut data, &mut size) };
        check_status(status).map(|()| Self(take_buffer(data, size).unwrap_or_default()))
    }

    /// The headers, in their order.
    pub(crate) fn headers(&self) -> Result<Vec<Header<'_>>, HostFailure> {
        match self.0.is_empty() {
            true => Ok(Vec::new()),
            false => pairs(&self.0).ok_or(HostFailure),
        }
    }
}

/// The value of a property; `None`: there is none.
pub(crate) fn property(path: PropertyPath) -> Option<Vec<u8>> {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    let PropertyPath(path) = path;
    // SAFETY: all pointers are valid for the call, which is all that the host keeps them for.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
    check_status(status).ok().and_then(|()| take_buffer(data, size))
}

/// Sets a header of the request to one value, in place of its first one.
pub(crate) fn set_request_header(name: &str, value: &str) -> Result<(), HostFailure> {
    let map = MapType::HttpRequestHeaders;
    // SAFETY: the host reads both strings during the call.
    let status = unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    check_status(status)
}

/// Removes every value of a header or trailer.
pub(crate) fn remove_header(map: MapType, name: &str) -> Result<(), HostFailure> {
    // SAFETY: the host reads the name during the call.
    check_status(unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

/// Reads a shared value; `None`: nobody has written it.
pub(crate) fn shared_value(key: &str) -> Result<Option<SharedValue>, HostFailure> {
    const NOT_FOUND: u32 = 1;
    let (mut data, mut size, mut version) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: all pointers are valid for the call, which is all that the host keeps them for.
    let status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut version) };
    if status == NOT_FOUND {
        return Ok(None);
    }
    check_status(status)?;
    let bytes = take_buffer(data, size).unwrap_or_default();
    Ok(Some(SharedValue { bytes, version }))
}

/// Writes a shared value, if its version is still the one that was read; `None`: if nobody has
/// written it yet. There is no way to take a key away again, so their number is the caller's to
/// bound.
pub(crate) fn set_shared_value(key: &str, bytes: &[u8], version: Option<u32>) -> Result<(), SharedWriteError> {
    /// The host numbers the writings of all values from 1 on, and compares only where there is a
    /// value: one that it will not reach stands for none.
    const NEVER_WRITTEN: u32 = u32::MAX;
    const RACED: u32 = 8;
    let version = version.unwrap_or(NEVER_WRITTEN);
    // SAFETY: the host reads key and value during the call.
    let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), bytes.as_ptr(), bytes.len(), version) };
    match status {
        RACED => Err(SharedWriteError::Raced),
        other => check_status(other).map_err(|HostFailure| SharedWriteError::Host),
    }
}

/// The status message of the gRPC call whose answer the host delivers, with bytes that are not
/// UTF-8 replaced. It must be read in the plugin's context, to which all calls belong.
pub(crate) fn call_message() -> String {
    let (mut code, mut data, mut size) = (0, std::ptr::null_mut(), 0);
    // SAFETY: all pointers are valid for the call, which is all that the host keeps them for.
    let status = unsafe { proxy_get_status(&mut code, &mut data, &mut size) };
    let message = check_status(status).ok().and_then(|()| take_buffer(data, size));
    String::from_utf8_lossy(&message.unwrap_or_default()).into_owned()
}

/// Runs `call` with its host calls made for the context `other`, and returns to `own`, the one that
/// the host has called.
///
/// # Errors
/// When `other` does not exist any more.
pub(crate) fn in_context<T>(other: ContextId, own: ContextId, call: impl FnOnce() -> T) -> Result<T, HostFailure> {
    set_effective_context(other)?;
    let result = call();
    // The host has just called it, so it exists.
    set_effective_context(own)?;
    Ok(result)
}

fn set_effective_context(ContextId(context): ContextId) -> Result<(), HostFailure> {
    // SAFETY: the host looks the number up.
    check_status(unsafe { proxy_set_effective_context(context) })
}

/// Resumes the request of the current context if the action is to continue, which takes a permit.
pub(crate) fn resume_request(action: Option<Action>) {
    if action == Some(Action::Continue) {
        // The host knows the context: it has just called it, or was told to.
        let _ = hostcalls::resume_http_request();
    }
}

/// `WasmResult` of the ABI. Hosts know more values than the SDK's enum has, so it is read as a
/// number.
fn check_status(status: u32) -> Result<(), HostFailure> {
    match status {
        0 => Ok(()),
        _ => Err(HostFailure),
    }
}

/// Takes ownership of the buffer that the host wrote. `None`: it wrote none.
fn take_buffer(data: *mut u8, size: usize) -> Option<Vec<u8>> {
    if data.is_null() {
        return None;
    }
    // SAFETY: the host had the memory from `proxy_on_memory_allocate`, which made it as a vector of
    // this size, and gave it up with the call.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

fn pairs(bytes: &[u8]) -> Option<Vec<Header<'_>>> {
    let (count, rest) = number(bytes)?;
    let (mut sizes, mut data) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut headers = Vec::with_capacity(count);
    while let Some((name_size, rest)) = number(sizes) {
        let (value_size, rest) = number(rest)?;
        sizes = rest;
        let (name, rest) = terminated(data, name_size)?;
        let (value, rest) = terminated(rest, value_size)?;
        data = rest;
        headers.push((std::str::from_utf8(name).ok()?, value));
    }
    Some(headers)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn terminated(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (value, rest) = bytes.split_at_checked(size)?;
    let (nul, rest) = rest.split_first()?;
    (*nul == 0).then_some((value, rest))
}
