// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! The library for servers that take part in graceful restarts.
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn main() -> Result<(), udpgrm::Error> {
//! # let generation = 2;
//! let address = "0.0.0.0:4433".parse().unwrap();
//! let sockets = udpgrm::bind(address, 2, &udpgrm::Dissector::flow(0))?;
//! udpgrm::enroll(&sockets, generation, Duration::from_secs(5))?;
//! // serve; when ready for new flows:
//! udpgrm::promote(&sockets[0], generation)?;
//! # Ok(())
//! # }
//! ```
//!
//! Functions take whatever has a socket's descriptor: `std::net::UdpSocket`, `socket2::Socket`,
//! `tokio::net::UdpSocket`. `enroll` and `wait_registered` block for the milliseconds that the daemon
//! takes: call them before a runtime serves. Nothing here needs privileges, only hooks on the
//! process's cgroup.

mod dissector;
mod sys;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::io::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use dissector::{Dissector, Instruction};

const WORKING_GEN: i32 = 200;
const SOCKET_GEN: i32 = 201;
const DISSECTOR: i32 = 202;
const FLOW_ASSURE: i32 = 203;
const NONE: u32 = u32::MAX;
const POLL: Duration = Duration::from_millis(1);

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// This process's cgroup has no hooks, or the socket was bound before they came or without
    /// `SO_REUSEPORT`, or its address is another user's.
    NotHooked(io::Error),
    /// No daemon has registered a socket in time: it was not enrolled, none runs, or its generation
    /// has 256 sockets.
    TimedOut,
    /// Anything else, by the kind of the error: `PermissionDenied`, `AlreadyExists`, `InvalidInput`.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotHooked(error) => write!(
                f,
                "no udpgrm hooks, or the socket came before them (see udpgrm doctor): {error}"
            ),
            Error::TimedOut => f.write_str(
                "a socket got no index in time: not enrolled, no daemon runs, \
                 or it could not register the socket (see udpgrm doctor)",
            ),
            Error::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NotHooked(error) | Error::Io(error) => Some(error),
            Error::TimedOut => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(sys::ENOPROTOOPT | sys::EBADF | sys::EBADFD) => Error::NotHooked(error),
            _ => Error::Io(error),
        }
    }
}

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// A socket's generation, index and udpgrm cookie; no index: not registered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketGeneration {
    pub generation: u32,
    pub index: Option<u32>,
    /// For connection IDs.
    pub cookie: u16,
}

/// Return whether this process's cgroup has udpgrm's hooks, which a daemon installs.
pub fn probe() -> Result<bool> {
    let socket = sys::socket(&SocketAddr::from(([0, 0, 0, 0], 0)))?;
    match working_generation(&socket) {
        Ok(_) => Ok(true),
        Err(Error::NotHooked(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Make `count` sockets of one reuseport group. `PermissionDenied`: the group has another dissector.
///
/// To bind to a device, make the sockets with the crate socket2 and call `set_dissector`.
pub fn bind(address: SocketAddr, count: usize, dissector: &Dissector) -> Result<Vec<UdpSocket>> {
    (0..count)
        .map(|_| {
            let socket = sys::socket(&address)?;
            sys::share_port(&socket)?;
            sys::bind(&socket, &address)?;
            set_dissector(&socket, dissector)?;
            Ok(socket)
        })
        .collect()
}

/// Set the dissector of a socket's group, once. `PermissionDenied`: the group has another one.
pub fn set_dissector<S: AsRawFd>(socket: &S, dissector: &Dissector) -> Result<()> {
    sys::set(socket, DISSECTOR, &dissector.value()).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Io(io::Error::new(
            error.kind(),
            "the group has another dissector (see udpgrm list), or this one is not valid",
        )),
        _ => error.into(),
    })
}

/// Enroll sockets in a generation and wait as `wait_registered` does. Returns their indices.
pub fn enroll<S: AsRawFd>(sockets: &[S], generation: u32, timeout: Duration) -> Result<Vec<u32>> {
    let deadline = after(timeout);
    for socket in sockets {
        while let Err(error) = sys::set(socket, SOCKET_GEN, &generation.to_ne_bytes()) {
            // the daemon is busy: its queue is full
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error.into());
            }
            pause(deadline)?;
        }
    }
    wait_until(sockets, deadline)
}

/// Wait until the daemon has registered sockets that are in a generation. Returns their indices.
pub fn wait_registered<S: AsRawFd>(sockets: &[S], timeout: Duration) -> Result<Vec<u32>> {
    wait_until(sockets, after(timeout))
}

/// Return the end of a timeout; `None`: it is too far away for the clock, as `Duration::MAX`.
fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

fn wait_until<S: AsRawFd>(sockets: &[S], deadline: Option<Instant>) -> Result<Vec<u32>> {
    sockets
        .iter()
        .map(|socket| loop {
            if let Some(index) = socket_generation(socket)?.index {
                return Ok(index);
            }
            pause(deadline)?;
        })
        .collect()
}

fn pause(deadline: Option<Instant>) -> Result<()> {
    if deadline.map_or(false, |deadline| Instant::now() > deadline) {
        return Err(Error::TimedOut);
    }
    sleep(POLL);
    Ok(())
}

/// Make a generation the working one of the socket's group.
pub fn promote<S: AsRawFd>(socket: &S, generation: u32) -> Result<()> {
    Ok(sys::set(socket, WORKING_GEN, &generation.to_ne_bytes())?)
}

/// Return the working generation of a socket's group; `None` while there is no group.
pub fn working_generation<S: AsRawFd>(socket: &S) -> Result<Option<u32>> {
    let value = u32::from_ne_bytes(sys::get(socket, WORKING_GEN)?);
    Ok((value != NONE).then_some(value))
}

/// Return a socket's generation, index and udpgrm cookie.
pub fn socket_generation<S: AsRawFd>(socket: &S) -> Result<SocketGeneration> {
    let raw: [u8; 12] = sys::get(socket, SOCKET_GEN)?;
    let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let half = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
    // while it moves, the index is still that of its last generation
    let is_pending = half(10) != 0;
    Ok(SocketGeneration {
        generation: word(0),
        index: (word(4) != NONE && !is_pending).then_some(word(4)),
        cookie: half(8),
    })
}

/// Make or refresh the flow of a peer, as if the socket had sent to it.
///
/// `AlreadyExists`: another socket has the flow. `PermissionDenied`: the dissector has no flow table,
/// or packets of this address family do not reach the socket.
pub fn assure_flow<S: AsRawFd>(socket: &S, peer: SocketAddr) -> Result<()> {
    let ip = match peer.ip() {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
        four => four,
    };
    Ok(sys::set(socket, FLOW_ASSURE, &sys::sockaddr(&SocketAddr::new(ip, peer.port())))?)
}
