// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! Runs what tests/kernel/registration/test_clients.py asks of each language.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::io::{AsRawFd, BorrowedFd};
use std::time::Duration;

use udpgrm::{Dissector, Error, Instruction};

type Answer = udpgrm::Result<String>;
type Sockets = HashMap<i32, UdpSocket>;

fn number(word: &str) -> u32 {
    word.parse().expect("a number")
}

fn milliseconds(word: &str) -> Duration {
    if word == "forever" {
        return Duration::MAX;
    }
    Duration::from_millis(number(word).into())
}

fn address(ip: &str, port: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an IP"), number(port) as u16)
}

fn invalid() -> Error {
    io::Error::from(ErrorKind::InvalidInput).into()
}

fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| format!(" {}", value.to_string())).collect()
}

fn describe(error: &Error) -> String {
    let (kind, reason) = match error {
        Error::NotHooked(reason) => ("not_hooked", Some(reason)),
        Error::TimedOut => ("timed_out", None),
        Error::Io(reason) => match reason.kind() {
            ErrorKind::AlreadyExists => ("exists", Some(reason)),
            ErrorKind::PermissionDenied => ("permission", Some(reason)),
            ErrorKind::InvalidInput => ("invalid", Some(reason)),
            _ => ("other", Some(reason)),
        },
    };
    let errno = reason.and_then(io::Error::raw_os_error).unwrap_or(0);
    format!("error {kind} {errno}")
}

fn keep(sockets: &mut Sockets, made: Vec<UdpSocket>) -> String {
    let text = join(made.iter().map(AsRawFd::as_raw_fd));
    sockets.extend(made.into_iter().map(|socket| (socket.as_raw_fd(), socket)));
    text
}

/// bind IP PORT COUNT flow SECONDS | noop | cbpf APPLICATIONS RESULT | named NAME PARAMETERS
fn bind(sockets: &mut Sockets, words: &[&str]) -> Answer {
    let dissector = match words[3] {
        "flow" => Dissector::flow(words[4].parse().map_err(|_| invalid())?),
        "cbpf" => {
            // BPF_RET | BPF_K
            let one = Instruction { code: 0x06, jt: 0, jf: 0, k: number(words[5]) };
            Dissector::cbpf(&[one], number(words[4]))?
        }
        "named" => Dissector::named(words[4], words[5])?,
        _ => Dissector::noop(),
    };
    let made = udpgrm::bind(address(words[0], words[1]), number(words[2]) as usize, &dissector)?;
    Ok(keep(sockets, made))
}

fn socket_generation(socket: &UdpSocket) -> Answer {
    let value = udpgrm::socket_generation(socket)?;
    let index = value.index.map_or("none".into(), |index| index.to_string());
    Ok(format!(" {} {index} {}", value.generation, value.cookie))
}

fn call(sockets: &mut Sockets, words: &[&str]) -> Answer {
    let find = |word: &str| &sockets[&(number(word) as i32)];
    let find_all = |words: &[&str]| -> Vec<BorrowedFd<'_>> {
        // SAFETY: none is closed before the call returns
        words.iter().map(|word| unsafe { BorrowedFd::borrow_raw(find(word).as_raw_fd()) }).collect()
    };
    match words[0] {
        "probe" => Ok(if udpgrm::probe()? { " yes" } else { " no" }.into()),
        "bind" => bind(sockets, &words[1..]),
        "plain" => {
            let socket = UdpSocket::bind(address(words[1], words[2]))?;
            Ok(keep(sockets, vec![socket]))
        }
        "enroll" => {
            let patience = milliseconds(words[2]);
            Ok(join(udpgrm::enroll(&find_all(&words[3..]), number(words[1]), patience)?))
        }
        "wait_registered" => {
            let patience = milliseconds(words[1]);
            Ok(join(udpgrm::wait_registered(&find_all(&words[2..]), patience)?))
        }
        "promote" => udpgrm::promote(find(words[1]), number(words[2])).map(|()| String::new()),
        "working_generation" => Ok(udpgrm::working_generation(find(words[1]))?
            .map_or(" none".into(), |generation| format!(" {generation}"))),
        "socket_generation" => socket_generation(find(words[1])),
        "assure_flow" => {
            udpgrm::assure_flow(find(words[1]), address(words[2], words[3]))?;
            Ok(String::new())
        }
        "close" => {
            sockets.remove(&(number(words[1]) as i32));
            Ok(String::new())
        }
        other => panic!("unknown call {other}"),
    }
}

fn main() {
    let mut sockets = Sockets::new();
    for line in io::stdin().lock().lines() {
        let line = line.expect("a line");
        match call(&mut sockets, &line.split_whitespace().collect::<Vec<_>>()) {
            Ok(text) => println!("ok{text}"),
            Err(error) => println!("{}", describe(&error)),
        }
    }
}
