//! HTTP/1 by the byte: what is sent is the caller's business, what comes back is read as RFC 9112 says.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, BoxedIo};

/// Limits of an answer; an echo of the largest request fits.
const HEADERS_MAX: usize = 400;
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A connection that is kept open for as long as the server does.
pub struct Http1Connection {
    io: BoxedIo,
    buffer: BytesMut,
    usable: bool,
}

/// How the end of a body is known (RFC 9112 §6.3).
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    answer: Answer,
    framing: Framing,
    closes: bool,
}

impl Http1Connection {
    /// Speaks over `io`.
    pub fn new(io: BoxedIo) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            usable: true,
        }
    }

    /// Whether another request may be sent.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.io.write_all(bytes).await.context("cannot send")?;
        self.io.flush().await.context("cannot send")
    }

    /// Says that nothing more will be sent; the connection is of no use for another request.
    pub async fn finish(&mut self) {
        self.usable = false;
        // The server may have closed first: that is as good.
        let _ = self.io.shutdown().await;
    }

    /// Reads one answer, interim ones skipped.
    ///
    /// # Errors
    /// When the connection ends before the answer does, or what comes is not HTTP/1.
    pub async fn answer(&mut self) -> Result<Answer> {
        let result = self.read_answer().await;
        if result.is_err() {
            self.usable = false;
        }
        result
    }

    /// Sends a request and reads the answer to it.
    ///
    /// # Errors
    /// As [`Http1Connection::send`] and [`Http1Connection::answer`]. A server may answer and close before it has read everything; such
    /// an answer counts.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Result<Answer> {
        let sent = self.send(bytes).await;
        let answer = self.answer().await;
        match (sent, answer) {
            (_, Ok(answer)) => Ok(answer),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
        }
    }

    async fn read_answer(&mut self) -> Result<Answer> {
        loop {
            let Head {
                mut answer,
                framing,
                closes,
            } = self.read_head().await?;
            if answer.status < 200 {
                continue;
            }
            if closes {
                self.usable = false;
            }
            answer.body = match framing {
                Framing::None => Vec::new(),
                Framing::Length(length) => self.take(length).await?,
                Framing::Chunked => self.read_chunks().await?,
                Framing::UntilClose => self.read_rest().await?,
            };
            return Ok(answer);
        }
    }

    async fn read_head(&mut self) -> Result<Head> {
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                self.buffer.advance(length);
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    async fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("`{size}` is no chunk size"))?;
            if size == 0 {
                // The trailer section, up to its empty line.
                while !self.read_line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            ensure!(self.read_line().await?.is_empty(), "a chunk is longer than it says");
        }
    }

    async fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).to_vec())
    }

    async fn read_rest(&mut self) -> Result<Vec<u8>> {
        self.usable = false;
        while self.io.read_buf(&mut self.buffer).await? > 0 {
            ensure!(self.buffer.len() <= ANSWER_BYTES_MAX, "an answer without an end");
        }
        Ok(self.buffer.split().to_vec())
    }

    async fn fill(&mut self) -> Result<()> {
        ensure!(self.buffer.len() <= ANSWER_BYTES_MAX, "an answer without an end");
        let read = self.io.read_buf(&mut self.buffer).await.context("cannot read")?;
        if read == 0 {
            bail!("the connection was closed before the answer's end");
        }
        Ok(())
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut fields = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes).context("the answer is not HTTP/1")? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let answer = Answer {
        status: response.code.context("an answer without a status")?,
        headers: response
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect(),
        ..Answer::default()
    };
    let closes = answer
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let framing = framing(&answer)?;
    Ok(Some((
        Head {
            answer,
            framing,
            closes,
        },
        length,
    )))
}

/// RFC 9112 §6.3; requests with method HEAD are not sent by this client.
fn framing(answer: &Answer) -> Result<Framing> {
    if answer.status < 200 || answer.status == 204 || answer.status == 304 {
        return Ok(Framing::None);
    }
    if answer.header("transfer-encoding").is_some() {
        return Ok(Framing::Chunked);
    }
    match answer.header("content-length") {
        Some(length) => Ok(Framing::Length(length.parse().context("content-length")?)),
        None => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::Http1Connection;
    use tokio::io::AsyncWriteExt;

    async fn read(bytes: &'static [u8]) -> anyhow::Result<crate::client::Answer> {
        let (client, mut server) = tokio::io::duplex(64);
        let writes = tokio::spawn(async move {
            // A reader that gives up early closes the pipe: that is its business.
            let _ = server.write_all(bytes).await;
        });
        let answer = Http1Connection::new(Box::new(client)).answer().await;
        writes.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn reads_a_body_with_a_length_and_skips_interim_answers() {
        let answer =
            read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nA: b\r\n\r\nhi")
                .await
                .unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (403, b"hi".as_slice()));
        assert_eq!(answer.header("a").as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn reads_chunks_and_their_trailers() {
        let answer =
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nt: u\r\n\r\n")
                .await
                .unwrap();
        assert_eq!(answer.body, b"abcd");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_short_is_an_error() {
        read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
            .await
            .unwrap_err();
    }
}
