//! A TCP proxy before Redis that cuts every connection in the middle of a reply, each after
//! another number of bytes, for as long as it is told to.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::support::PATIENCE;

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    cutting: AtomicBool,
    stopped: AtomicBool,
    /// Connections that were accepted while it cuts: each is cut after another number of bytes.
    met: AtomicUsize,
    /// Connections that were cut inside a reply.
    cuts: AtomicUsize,
    /// Both ends of every connection.
    sockets: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    #[track_caller]
    pub(crate) fn before(upstream_port: u16) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).expect("a free port");
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, upstream_port)),
            cutting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            met: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            sockets: Mutex::new(Vec::new()),
        });
        let address = listener.local_addr().expect("its address");
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &theirs));
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on, or no more; the connections there are end with the beginning.
    pub(crate) fn cut(&self, cutting: bool) {
        self.shared.cutting.store(cutting, Ordering::SeqCst);
        if cutting {
            self.shared.end_all();
        }
    }

    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(TcpStream::connect_timeout(&self.address, PATIENCE));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        self.shared.end_all();
    }
}

impl Shared {
    fn end_all(&self) {
        for socket in self.sockets.lock().expect("no holder panics").drain(..) {
            // It may have ended by itself.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().map_while(Result::ok) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(redis) = TcpStream::connect_timeout(&shared.upstream, PATIENCE) else {
            continue;
        };
        let budget = if shared.cutting.load(Ordering::SeqCst) {
            // Each number below the prime once, and far from the last one: in the greeting as well
            // as in claims and saves.
            let met = shared.met.fetch_add(1, Ordering::SeqCst);
            met * CUT_STEP % CUT_PRIME + 1
        } else {
            usize::MAX
        };
        let clone = |socket: &TcpStream| socket.try_clone().expect("a socket can be cloned");
        let both = [clone(&client), clone(&redis)];
        shared
            .sockets
            .lock()
            .expect("no holder panics")
            .extend(both);
        let (requests, replies) = ((clone(&client), clone(&redis)), (redis, client));
        std::thread::spawn(move || forward(requests, usize::MAX));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            if forward(replies, budget) {
                shared.cuts.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

/// Forwards up to so many bytes, then ends both; whether it was the budget that ended.
fn forward((mut from, mut to): (TcpStream, TcpStream), budget: usize) -> bool {
    let mut left = budget;
    let mut chunk = [0; 4 << 10];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        let take = len.min(left);
        if to.write_all(&chunk[..take]).is_err() {
            break;
        }
        left -= take;
        if left == 0 {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    left == 0
}

const CUT_PRIME: usize = 601;
const CUT_STEP: usize = 97;
