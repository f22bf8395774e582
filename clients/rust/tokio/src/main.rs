// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! The example echo_server on tokio, with a socket that socket2 has made.
//!
//!     echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]

use std::error::Error;
use std::net::SocketAddr;
use std::slice::from_ref;
use std::time::Duration;
use std::{env, process};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::signal::unix::{signal, SignalKind};
use tokio::time::timeout;

/// Return a socket of the group at an address, which a device could be set on before it is bound.
fn bind(address: SocketAddr, flow_timeout_s: u32) -> Result<Socket, Box<dyn Error>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    udpgrm::set_dissector(&socket, &udpgrm::Dissector::flow(flow_timeout_s))?;
    Ok(socket)
}

async fn answer(socket: &UdpSocket, prefix: &str) {
    let mut data = vec![0; 65536];
    // an error is an ICMP error of an earlier answer
    if let Ok((length, peer)) = socket.recv_from(&mut data).await {
        let answer = [prefix.as_bytes(), &data[..length]].concat();
        if let Err(error) = socket.send_to(&answer, peer).await {
            eprintln!("no answer to {peer}: {error}");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    if words.len() < 5 {
        return Err("usage: echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]".into());
    }
    let address = SocketAddr::new(words[1].parse()?, words[2].parse()?);
    let generation = words[3].parse()?;
    let seconds: u32 = words[4].parse()?;
    let socket = bind(address, seconds)?;
    udpgrm::enroll(from_ref(&socket), generation, Duration::from_secs(5))?;
    let socket = UdpSocket::from_std(socket.into())?;
    if words.len() > 5 {
        udpgrm::promote(&socket, generation)?;
    }
    let prefix = format!("{generation} {} ", process::id());
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = answer(&socket, &prefix) => {}
            _ = terminate.recv() => break,
        }
    }
    let idle = Duration::from_secs(seconds.into());
    while timeout(idle, answer(&socket, &prefix)).await.is_ok() {}
    Ok(())
}
