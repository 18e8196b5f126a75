use std::io::{Read, Write};

use super::*;
use crate::{
    bare::{Bare, BareOptions},
    cpu,
    phase::{Interrupt, Phase},
};

fn options(address: SocketAddr, connections: usize) -> ClientOptions {
    ClientOptions {
        address,
        connections,
        requests: vec![b"POST /subscribe HTTP/1.1\r\n\r\n".to_vec()],
        core: cpu::core_count() - 1,
        ordered: true,
        only_even: false,
        receive_buffer_bytes: None,
        spin: false,
    }
}

#[test]
fn client_and_bare_loop_agree_on_what_was_sent() {
    let (bare_control, control) = (Control::new(), Control::new());
    let bare = Bare::start(
        BareOptions {
            connections: 20,
            symbol: "SPY".to_owned(),
            core: 0,
            notsent_low_water_bytes: 4096,
            send_buffer_bytes: 64 * 1024,
        },
        bare_control.clone(),
    )
    .unwrap();
    let client = Client::start(options(bare.address, 20), control.clone()).unwrap();
    let interrupt = Interrupt::never();
    assert!(interrupt.wait_until(60.0, || Ok(control.ready() == 20)).unwrap());
    // The client's window encloses the loop's.
    control.set(Phase::Measure);
    interrupt.sleep(0.1).unwrap();
    bare_control.set(Phase::Measure);
    interrupt.sleep(0.1).unwrap();
    bare_control.set(Phase::Counted);
    assert!(interrupt.wait_until(60.0, || Ok(bare_control.has_counted())).unwrap());
    interrupt.sleep(0.1).unwrap();
    control.set(Phase::Counted);
    assert!(interrupt.wait_until(60.0, || Ok(control.has_counted())).unwrap());
    bare_control.set(Phase::Stop);
    let sent = bare.join().unwrap();
    control.set(Phase::Stop);
    let seen = client.join().unwrap();
    assert!(sent.sends > 0 && sent.cpu_nanos > 0);
    assert!(seen.prices >= sent.sends, "{} frames of {} sends", seen.prices, sent.sends);
    assert_eq!(seen.ages.len(), seen.prices);
    assert!(seen.bytes >= seen.prices * sent.frame_bytes as u64);
    assert_eq!((seen.out_of_order, seen.closed, sent.closed), (0, 0, 0));
}

#[test]
fn a_refused_stream_says_what_the_server_answered() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::start(options(address, 1), Control::new()).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = [0; 64];
    let _ = socket.read(&mut request).unwrap();
    socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":\"unknown_symbol\"}").unwrap();
    let error = client.join().unwrap_err();
    assert!(error.to_string().contains("unknown_symbol"), "{error}");
}
