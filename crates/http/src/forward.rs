//! From a request to its answer.

use std::{convert::Infallible, sync::Arc};

use http::{Method, StatusCode, Version, header::HeaderValue, request::Parts, uri::Authority};
use http_body_util::Either;
use hyper::{
    Request, Response,
    body::Incoming,
    upgrade::{self, OnUpgrade},
};

use crate::{
    answer::answer,
    body::{Body, Relayed},
    connection::{Connection, Security},
    counters::{ErrorReason, Row},
    exchange::exchange,
    headers, host,
    ongoing::{Exchange, Way},
    streams,
    table::{Refusal, Rule, Table},
    upgrade::join,
};

/// Answers a request of this connection, by an endpoint if one is to be had.
pub(crate) async fn respond(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    connection.pulse.requested();
    let view = connection.view.load_full();
    let downstream = upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let authority = host::authority(&parts);
    let picked = match &authority {
        Ok(host) => choose(&connection, &view.table, &parts, host.as_ref())
            .and_then(|rule| Ok((rule.pick()?, &rule.pseudonym))),
        Err(host::BadHost) => Err(Refusal { reason: ErrorReason::BadHost, row: &view.table.stray }),
    };
    let (picked, pseudonym) = match picked {
        Ok(picked) => picked,
        Err(Refusal { reason, row }) => return Ok(refuse(reason, row)),
    };
    let row = &picked.row;
    let pending = Pending::new(row);
    let protocol = headers::upgrade(&parts.headers);
    let authority = authority.ok().flatten();
    let patient = headers::is_grpc(&parts.headers);
    let (shared, pulse) = (&connection.shared, connection.pulse.clone());
    let ongoing = Exchange::new(shared, row.clone(), pulse, streams::current(), patient);
    if let Some(inlet) = &connection.inlet {
        inlet.follow(&ongoing, Way::Upstream);
    }
    let mut head = for_endpoint(parts, &connection, authority.as_ref(), protocol.clone());
    pseudonym.add_to(&mut head.headers);
    let request = Request::from_parts(head, Relayed::request(body, ongoing.clone()));
    let call = Call(Some(&ongoing));
    let answered = tokio::select! {
        biased;
        answered = exchange(shared, &view, picked, request, &ongoing) => answered,
        reason = ongoing.given_up() => Err(reason),
    };
    pending.end();
    let (response, lease) = match answered {
        Ok(answered) => answered,
        Err(reason) => return Ok(refuse(reason, row)),
    };
    call.end();
    ongoing.answered();
    let upgraded = protocol.map(|_| downstream);
    let Some(response) = for_client(response, &connection, row, upgraded) else {
        return Ok(refuse(ErrorReason::UpstreamFailed, row));
    };
    row.answer(response.status());
    Ok(response.map(|body| Either::Left(Relayed::answer(body, ongoing, row.clone(), lease))))
}

/// The rule that a request takes.
fn choose<'t>(
    connection: &Connection,
    table: &'t Table,
    request: &Parts,
    host: Option<&Authority>,
) -> Result<&'t Rule, Refusal<'t>> {
    let stray = |reason| Refusal { reason, row: &table.stray };
    if request.method == Method::CONNECT {
        return Err(stray(ErrorReason::MethodNotSupported));
    }
    let host = host.map(|host| host::normal(host.host()));
    let host = host.as_deref();
    let listener = table.listener(host).ok_or(stray(ErrorReason::NoListener))?;
    if let Security::Tls { server_name } = &connection.security {
        let shown = table.listener(server_name.as_deref());
        if shown.is_none_or(|shown| shown.id != listener.id) {
            return Err(stray(ErrorReason::Misdirected));
        }
    }
    let unmatched = Refusal { reason: ErrorReason::NoRoute, row: &listener.unmatched };
    let rule = listener.rule(host, request.uri.path(), &request.headers).ok_or(unmatched)?;
    if rule.pseudonym.is_in(&request.headers) {
        let row = &rule.weightless;
        connection.shared.tell_loop(&row.labels, connection.client.ip());
        return Err(Refusal { reason: ErrorReason::Loop, row });
    }
    Ok(rule)
}

fn refuse(reason: ErrorReason, row: &Row) -> Response<Body> {
    let response = answer(reason);
    row.error(reason);
    row.answer(response.status());
    response
}

/// A request's head as the endpoint gets it.
fn for_endpoint(
    mut head: Parts,
    connection: &Connection,
    host: Option<&Authority>,
    upgrade: Option<HeaderValue>,
) -> Parts {
    head.uri = host::origin_form(&head.uri);
    head.version = Version::HTTP_11;
    headers::strip_hop_by_hop(&mut head.headers);
    headers::join_cookies(&mut head.headers);
    if let Some(protocol) = upgrade {
        headers::set_upgrade(&mut head.headers, protocol);
    }
    let tls = matches!(connection.security, Security::Tls { .. });
    headers::set_forwarded(&mut head.headers, connection.client.ip(), tls, host);
    head
}

/// An answer as the client gets it; if it agrees to the upgrade that the client asked for, the two
/// connections are joined. `None` if it agrees to one that nobody asked for.
fn for_client(
    mut response: Response<Incoming>,
    connection: &Connection,
    row: &Row,
    downstream: Option<OnUpgrade>,
) -> Option<Response<Incoming>> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upgraded = if switches {
        Some((headers::upgrade(response.headers())?, downstream?, upgrade::on(&mut response)))
    } else {
        None
    };
    *response.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(response.headers_mut());
    if let Some((protocol, downstream, upstream)) = upgraded {
        headers::set_upgrade(response.headers_mut(), protocol);
        row.upgrades.increment();
        connection.pulse.upgraded();
        join(downstream, upstream, connection);
    }
    Some(response)
}

/// A request that an endpoint has, and hasn't answered. If it never will, the connection there ends.
struct Call<'a>(Option<&'a Exchange>);

impl Call<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(exchange) = self.0 {
            exchange.hang_up();
        }
    }
}

/// A request that waits for its answer. The client may go before that, and this is dropped then.
struct Pending<'a>(Option<&'a Row>);

impl<'a> Pending<'a> {
    fn new(row: &'a Row) -> Self {
        Self(Some(row))
    }

    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(row) = self.0 {
            row.error(ErrorReason::DownstreamGone);
        }
    }
}
