// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! A UDP echo server that can be restarted without losing a packet.
//!
//!     echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]
//!
//! An answer is `GENERATION PID ` and the payload. On SIGTERM the server drains: it answers the flows
//! that it has and exits when none has sent for the flow timeout. Without `promote` something else
//! makes its generation the working one, such as `udpgrm restart`.

use std::env;
use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static IS_DRAINING: AtomicBool = AtomicBool::new(false);
const SIGTERM: i32 = 15;
/// How often the server looks whether it is to drain.
const LOOK: Duration = Duration::from_millis(100);

extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn drain(_: i32) {
    IS_DRAINING.store(true, Ordering::Relaxed);
}

/// Tell systemd that all sockets are enrolled; without systemd do nothing.
fn notify_ready() -> std::io::Result<()> {
    match env::var("NOTIFY_SOCKET") {
        Ok(path) => UnixDatagram::unbound()?.send_to(b"READY=1", path).map(|_| ()),
        Err(_) => Ok(()),
    }
}

fn serve(socket: &UdpSocket, prefix: &str, flow_timeout: Duration) -> std::io::Result<()> {
    socket.set_read_timeout(Some(LOOK))?;
    let mut data = [0; 65536];
    let mut last = Instant::now();
    loop {
        match socket.recv_from(&mut data) {
            Ok((length, peer)) => {
                last = Instant::now();
                let answer = [prefix.as_bytes(), &data[..length]].concat();
                if let Err(error) = socket.send_to(&answer, peer) {
                    eprintln!("no answer to {peer}: {error}");
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                if IS_DRAINING.load(Ordering::Relaxed) && last.elapsed() > flow_timeout {
                    return Ok(());
                }
            }
            Err(_) => {} // an ICMP error of an earlier answer
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    if words.len() < 5 {
        return Err("usage: echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]".into());
    }
    let address = SocketAddr::new(words[1].parse::<IpAddr>()?, words[2].parse()?);
    let generation = words[3].parse()?;
    let seconds: u32 = words[4].parse()?;
    // SAFETY: the handler only stores
    unsafe { signal(SIGTERM, drain) };
    let sockets = udpgrm::bind(address, 1, &udpgrm::Dissector::flow(seconds))?;
    udpgrm::enroll(&sockets, generation, Duration::from_secs(5))?;
    if words.len() > 5 {
        udpgrm::promote(&sockets[0], generation)?;
    }
    notify_ready()?;
    let prefix = format!("{generation} {} ", process::id());
    Ok(serve(&sockets[0], &prefix, Duration::from_secs(seconds.into()))?)
}
