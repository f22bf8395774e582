// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! Send each line of standard input to an echo server and print its answers: one flow.
//!
//!     echo_client IP PORT
//!
//! Clients need nothing of udpgrm. Exits with 1 when an answer takes more than 5 s.

use std::env;
use std::error::Error;
use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    if words.len() != 3 {
        return Err("usage: echo_client IP PORT".into());
    }
    let server = SocketAddr::new(words[1].parse::<IpAddr>()?, words[2].parse()?);
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = [0; 2048];
    for line in io::stdin().lock().lines() {
        socket.send(line?.as_bytes())?;
        let length = socket.recv(&mut answer)?;
        println!("{}", String::from_utf8_lossy(&answer[..length]));
    }
    Ok(())
}
