//! A free TCP port on 127.0.0.1.
//!
//! Below the range from which the kernel takes the ports of outgoing connections (32768 and up), so
//! that no client connection takes a port while its server restarts. Two processes may still pick
//! the same one at once: whoever starts a server tries again when its port is taken.

use std::net::TcpListener;

use rand::Rng;

/// Picks one at random.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    for _ in 0..1000 {
        let port = random.random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port found");
}
