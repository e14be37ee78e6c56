//! A bad network: a TCP proxy between a coordinator and one of its nodes.
//!
//! Faults are put on at run time, by hand or drawn from a seed, and apply to the connections that are open then
//! or, where they last, to new ones as well. [`Proxy::heal`] ends all that last; what was cut stays cut.
//!
//! ```no_run
//! use pg_test::harness::{Cluster, Direction, Fault, Proxy};
//! use std::time::Duration;
//!
//! let cluster = Cluster::start(1);
//! let proxy = Proxy::start(cluster.node(1).port());
//! proxy.inject(&Fault::Delay(Duration::from_millis(30)));
//! proxy.inject(&Fault::Cut { direction: Direction::ToClient, after: 100 });
//! proxy.heal();
//! ```
//!
//! A stalled connection looks like a node whose machine is gone: no data, no FIN, no RST; only the kernel of this
//! machine still acknowledges what is sent, so timeouts of TCP cannot be tested with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use socket2::SockRef;

/// How long a thread is deaf at most.
const TICK: Duration = Duration::from_millis(10);

/// Which way data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToNode,
    ToClient,
}

/// What can be wrong with a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whatever is sent, either way, arrives so much later. Lasts.
    Delay(Duration),
    /// What is sent this way does not arrive for now. Lasts.
    Stall(Direction),
    /// Nothing arrives either way, and new connections are not answered. Lasts.
    Silence,
    /// New connections are refused. Lasts.
    Refuse,
    /// Each open connection is reset once so many more bytes have gone this way.
    Cut { direction: Direction, after: u64 },
    /// Each open connection is reset: RST to both sides, what is under way is lost.
    Reset,
    /// Each open connection ends this way (FIN), and stays open the other way.
    HalfClose(Direction),
}

impl Fault {
    /// One at random.
    pub fn any(random: &mut ChaCha8Rng) -> Fault {
        let direction = if random.random() { Direction::ToNode } else { Direction::ToClient };
        match random.random_range(0..10) {
            0 | 1 => Fault::Delay(Duration::from_millis(random.random_range(1..60))),
            2 => Fault::Stall(direction),
            3 => Fault::Silence,
            4 => Fault::Refuse,
            5 | 6 => Fault::Cut { direction, after: random.random_range(0..600) },
            7 | 8 => Fault::Reset,
            _ => Fault::HalfClose(direction),
        }
    }

    /// Whether it goes on until [`Proxy::heal`].
    pub fn lasts(&self) -> bool {
        matches!(self, Fault::Delay(_) | Fault::Stall(_) | Fault::Silence | Fault::Refuse)
    }
}

/// See the module. Dropped, it resets all connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    delay_us: AtomicU64,
    stalled: [AtomicBool; 2],
    refuses: AtomicBool,
    links: Mutex<Vec<Arc<Link>>>,
    passed: AtomicU64,
}

/// A connection from a client to the node. The sockets close when nobody has the link any more.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    node: TcpStream,
    dead: AtomicBool,
    /// Bytes that may still pass, per direction; negative: any number.
    budget: [AtomicI64; 2],
    half_closed: [AtomicBool; 2],
    open: [AtomicBool; 2],
}

impl Proxy {
    /// Starts one for a node on 127.0.0.1.
    pub fn start(node: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("no free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let listener = thread::spawn(move || ours.listen(&listener, node));
        Proxy { port, shared, listener: Some(listener) }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.links().len()
    }

    /// Bytes passed on so far, both ways together.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Makes something go wrong.
    pub fn inject(&self, fault: &Fault) {
        let shared = &self.shared;
        let each = |f: &dyn Fn(&Link)| shared.links().iter().for_each(|link| f(link));
        match fault {
            Fault::Delay(time) => shared.delay_us.store(time.as_micros() as u64, Ordering::Relaxed),
            Fault::Stall(direction) => shared.stalled[*direction as usize].store(true, Ordering::Relaxed),
            Fault::Silence => shared.stalled.iter().for_each(|stalled| stalled.store(true, Ordering::Relaxed)),
            Fault::Refuse => shared.refuses.store(true, Ordering::Relaxed),
            Fault::Cut { direction, after } => {
                each(&|link| link.budget[*direction as usize].store(*after as i64, Ordering::Relaxed));
            }
            Fault::Reset => each(&Link::reset),
            Fault::HalfClose(direction) => each(&|link| {
                link.half_closed[*direction as usize].store(true, Ordering::Relaxed);
                let _ = link.sink(*direction).shutdown(Shutdown::Write);
            }),
        }
    }

    /// Ends what lasts, and lets connections live that were to be cut.
    pub fn heal(&self) {
        self.shared.delay_us.store(0, Ordering::Relaxed);
        self.shared.stalled.iter().for_each(|stalled| stalled.store(false, Ordering::Relaxed));
        self.shared.refuses.store(false, Ordering::Relaxed);
        let each = |link: &Arc<Link>| link.budget.iter().for_each(|budget| budget.store(-1, Ordering::Relaxed));
        self.shared.links().iter().for_each(each);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.links().iter().for_each(|link| link.reset());
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Shared>, listener: &TcpListener, node: u16) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let Ok(client) = client else { continue };
            if self.refuses.load(Ordering::Relaxed) {
                let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
                continue;
            }
            // A node that is down refuses; so does its proxy.
            let Ok(node) = TcpStream::connect(("127.0.0.1", node)) else {
                let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
                continue;
            };
            let link = Arc::new(Link {
                client,
                node,
                dead: AtomicBool::new(false),
                budget: [AtomicI64::new(-1), AtomicI64::new(-1)],
                half_closed: Default::default(),
                open: [AtomicBool::new(true), AtomicBool::new(true)],
            });
            for stream in [&link.client, &link.node] {
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(TICK));
                let _ = stream.set_write_timeout(Some(TICK));
            }
            self.links().push(Arc::clone(&link));
            for direction in [Direction::ToNode, Direction::ToClient] {
                let (shared, link) = (Arc::clone(self), Arc::clone(&link));
                thread::spawn(move || {
                    shared.pump(&link, direction);
                    link.open[direction as usize].store(false, Ordering::SeqCst);
                    if link.is_dead() || link.open.iter().all(|open| !open.load(Ordering::SeqCst)) {
                        shared.links().retain(|other| !Arc::ptr_eq(other, &link));
                    }
                });
            }
        }
    }

    /// Passes on what comes, until the end of one direction or of all.
    fn pump(&self, link: &Link, direction: Direction) {
        let (mut source, sink) = (link.source(direction), link.sink(direction));
        let mut buffer = [0; 16_384];
        while !link.is_dead() {
            match source.read(&mut buffer) {
                Ok(0) => {
                    self.hold(link, direction);
                    let _ = sink.shutdown(Shutdown::Write);
                    return;
                }
                Ok(count) => {
                    self.hold(link, direction);
                    if !link.half_closed[direction as usize].load(Ordering::Relaxed)
                        && !self.pass(link, direction, &buffer[..count])
                    {
                        link.reset();
                    }
                }
                Err(error) if is_timeout(error.kind()) => {}
                Err(_) => link.reset(),
            }
        }
    }

    /// Waits as long as the network is slow.
    fn hold(&self, link: &Link, direction: Direction) {
        let delay = self.delay_us.load(Ordering::Relaxed);
        if delay > 0 {
            thread::sleep(Duration::from_micros(delay));
        }
        while self.stalled[direction as usize].load(Ordering::Relaxed) && !link.is_dead() {
            thread::sleep(TICK / 5);
        }
    }

    /// Whether all of it went through.
    fn pass(&self, link: &Link, direction: Direction, mut bytes: &[u8]) -> bool {
        let mut sink = link.sink(direction);
        while !bytes.is_empty() && !link.is_dead() {
            let budget = link.budget[direction as usize].load(Ordering::Relaxed);
            let now = if budget < 0 { bytes.len() } else { bytes.len().min(budget as usize) };
            if now == 0 {
                return false;
            }
            match sink.write(&bytes[..now]) {
                Ok(count) => {
                    if budget >= 0 {
                        link.budget[direction as usize].store(budget - count as i64, Ordering::Relaxed);
                    }
                    self.passed.fetch_add(count as u64, Ordering::Relaxed);
                    bytes = &bytes[count..];
                }
                Err(error) if is_timeout(error.kind()) => {}
                Err(_) => return false,
            }
        }
        link.budget[direction as usize].load(Ordering::Relaxed) != 0
    }
}

impl Link {
    fn source(&self, direction: Direction) -> &TcpStream {
        if direction == Direction::ToNode { &self.client } else { &self.node }
    }

    fn sink(&self, direction: Direction) -> &TcpStream {
        if direction == Direction::ToNode { &self.node } else { &self.client }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Both sides get an RST as soon as both threads have let go.
    fn reset(&self) {
        for stream in [&self.client, &self.node] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.dead.store(true, Ordering::SeqCst);
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// A node that sends back what it gets, and says when the client has ended.
    fn echo() -> (u16, mpsc::Receiver<bool>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (said, ends) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, said) = (stream.unwrap(), said.clone());
                thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    let politely = loop {
                        match stream.read(&mut buffer) {
                            Ok(0) => break true,
                            Ok(count) => drop(stream.write_all(&buffer[..count])),
                            Err(_) => break false,
                        }
                    };
                    let _ = said.send(politely);
                });
            }
        });
        (port, ends)
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<usize> {
        stream.write_all(b"hello")?;
        let mut buffer = [0; 64];
        let mut received = 0;
        while received < 5 {
            match stream.read(&mut buffer)? {
                0 => break,
                count => received += count,
            }
        }
        Ok(received)
    }

    #[test]
    fn passes_on_until_something_happens() {
        let (port, ends) = echo();
        let proxy = Proxy::start(port);
        let mut stream = connect(&proxy);
        assert_eq!(ask(&mut stream).unwrap(), 5);

        proxy.inject(&Fault::Delay(Duration::from_millis(50)));
        let start = Instant::now();
        assert_eq!(ask(&mut stream).unwrap(), 5);
        assert!(start.elapsed() >= Duration::from_millis(100), "both ways");

        proxy.inject(&Fault::Stall(Direction::ToClient));
        assert!(is_timeout(ask(&mut stream).unwrap_err().kind()));
        proxy.heal();
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 5, "late, not lost");

        proxy.inject(&Fault::Cut { direction: Direction::ToClient, after: 3 });
        let mut buffer = [0; 64];
        stream.write_all(b"hello").unwrap();
        let received = stream.read(&mut buffer).unwrap_or(0);
        assert!(received <= 3);
        assert_ne!(stream.read(&mut buffer).unwrap_or(0), 5);
        assert!(!ends.recv_timeout(Duration::from_secs(5)).unwrap(), "the node sees a reset, too");

        let mut stream = connect(&proxy);
        assert_eq!(ask(&mut stream).unwrap(), 5);
        proxy.inject(&Fault::HalfClose(Direction::ToNode));
        assert!(ends.recv_timeout(Duration::from_secs(5)).unwrap(), "the node sees the end");

        proxy.inject(&Fault::Refuse);
        let refused = TcpStream::connect(("127.0.0.1", proxy.port())).and_then(|mut stream| ask(&mut stream));
        assert_ne!(refused.unwrap_or(0), 5);
    }
}
