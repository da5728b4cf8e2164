//! Servers for tests: what a program at the other end of a wire says is decided by a closure.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// What is answered; no status cuts the connection without a word.
#[derive(Default)]
pub struct Answer {
    pub status: Option<u16>,
    /// Lines of the head beside those for type and length, each with its end.
    pub head: String,
    pub body: Vec<u8>,
}

pub fn answer(status: u16, body: impl ToString) -> Answer {
    Answer { status: Some(status), body: body.to_string().into(), ..Answer::default() }
}

/// An HTTP server until the end of the process: its address.
pub fn http(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    http_on("127.0.0.1:0", handler)
}

/// The same on an address.
pub fn http_on(address: &str, handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind(address).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let handler = Arc::new(handler);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = handler.clone();
            thread::spawn(move || serve(stream, &*handler));
        }
    });
    address
}

fn serve(stream: TcpStream, handler: &dyn Fn(&Request) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let mut request = Request { method: words.next()?.into(), path: words.next()?.into(), ..Request::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            request.headers.insert(name.to_lowercase(), value.trim().into());
        }
        let length = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.body = String::from_utf8(body).ok()?;
        let Answer { status, head: more, body } = handler(&request);
        let status = status?;
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n");
        // The answer to a HEAD has a length and no body.
        let body = if request.method == "HEAD" { &[] } else { &body[..] };
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    }
}

/// An SMTP server until the end of the process: its port, and the letters it took.
pub fn smtp() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let letters = Arc::new(Mutex::new(Vec::new()));
    let taken = letters.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let taken = taken.clone();
            thread::spawn(move || take_letters(stream, &taken));
        }
    });
    (port, letters)
}

fn take_letters(mut stream: TcpStream, letters: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    stream.write_all(b"220 here\r\n").ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let word: String = line.chars().take(4).collect::<String>().to_uppercase();
        match &*word {
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                let mut letter = String::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).ok()?;
                    if line == ".\r\n" {
                        break;
                    }
                    letter.push_str(&line);
                }
                letters.lock().unwrap().push(letter);
                stream.write_all(b"250 taken\r\n").ok()?;
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").ok()?;
                return None;
            }
            _ => stream.write_all(b"250 ok\r\n").ok()?,
        }
    }
}
