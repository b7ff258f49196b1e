//! Results over a real socket: cut, large, failed.
#![allow(clippy::unwrap_used, clippy::panic)]

use rowcast_core::TableName;
use rowcast_net::Stream;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::rows::NoRows;

const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

fn packets(payloads: &[&[u8]]) -> Vec<u8> {
    let (mut out, mut sequence) = (Vec::new(), 0_u8);
    for payload in payloads {
        let mut rest = *payload;
        loop {
            let (part, tail) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
            out.push(sequence);
            out.extend_from_slice(part);
            sequence = sequence.wrapping_add(1);
            rest = tail;
            if part.len() < MAX_PAYLOAD {
                break;
            }
        }
    }
    out
}

/// Sends bytes; the pieces as numbers of rows, and the length of the last row of each.
async fn read(bytes: Vec<u8>) -> (Vec<(u64, u32)>, Option<Broken>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let sender = tokio::spawn(async move {
        let _ = server.write_all(&bytes).await;
        server
    });
    let name = TableName { db: "d".into(), schema: None, table: "t".into() };
    let table = Arc::new(Table::new(name, Vec::new(), Vec::new(), Box::new(NoRows)));
    let (mut wire, mut pieces) = (Wire::new(Stream::Plain(client)), Pieces::new(table, Duration::from_millis(500)));
    let (mut found, mut seq) = (Vec::new(), 0);
    let broken = loop {
        match pieces.next(&mut wire).await {
            Ok(cut) => {
                for event in &cut.batch.events {
                    let Event::Change(change) = event else { panic!("{event:?}") };
                    seq += 1;
                    assert_eq!((change.op, change.seq), (Op::Read, seq));
                    assert_eq!(cut.batch.bytes(change.after.unwrap().span).first(), Some(&0));
                }
                found.push((cut.rows, cut.last.map_or(0, |last| last.span.len)));
                if pieces.is_done() {
                    assert!(wire.buf.is_empty());
                    break None;
                }
            }
            Err(broken) => break Some(broken),
        }
    };
    drop(sender.await);
    (found, broken)
}

#[tokio::test]
async fn an_empty_result_is_one_piece_without_rows() {
    let (pieces, broken) = read(packets(&[EOF])).await;
    assert_eq!(pieces, [(0, 0)]);
    assert!(broken.is_none());
}

#[tokio::test]
async fn the_last_piece_is_known_to_be_the_last() {
    let row = vec![0_u8; 100_000];
    let mut payloads: Vec<&[u8]> = vec![&row; 6];
    payloads.push(EOF);
    let (pieces, broken) = read(packets(&payloads)).await;
    assert_eq!(pieces, [(3, 100_000), (3, 100_000)]);
    assert!(broken.is_none());
}

#[tokio::test]
async fn a_row_of_several_packets_is_a_piece() {
    for size in [MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 40_000_000] {
        let row = vec![0_u8; size];
        let (pieces, broken) = read(packets(&[&[0, 0], &row, &[0, 0], EOF])).await;
        assert_eq!(pieces, [(1, 2), (1, size as u32), (1, 2)], "{size}");
        assert!(broken.is_none());
        let (pieces, _) = read(packets(&[&row, EOF])).await;
        assert_eq!(pieces, [(1, size as u32)], "{size}");
    }
}

#[tokio::test]
async fn an_error_comes_behind_the_rows_before_it() {
    let error = b"\xff\xd0\x0b#HY000too slow";
    let (pieces, broken) = read(packets(&[&[0, 0], &[0, 0], error])).await;
    assert_eq!(pieces, [(2, 2)]);
    assert!(matches!(broken, Some(Broken::Server(error)) if error.code == 3024));
    let large = vec![0_u8; MAX_PAYLOAD];
    let (pieces, broken) = read(packets(&[&large, error])).await;
    assert_eq!(pieces.len(), 1);
    assert!(matches!(broken, Some(Broken::Server(_))));
}

#[tokio::test]
async fn what_is_no_result_breaks_the_connection() {
    for bytes in [packets(&[&[7, 7]]), packets(&[&[0, 0]]), vec![1, 0, 0, 9, 0], packets(&[&[]])] {
        let (_, broken) = read(bytes).await;
        assert!(matches!(broken, Some(Broken::Wire(_))));
    }
}
