//! From a request to its answer.

use std::{convert::Infallible, sync::Arc};

use http::{
    HeaderMap, Method, StatusCode, Uri, Version,
    header::{HOST, HeaderValue},
    request::Parts,
    uri::{Authority, PathAndQuery},
};
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
    forwarding::{self, Came},
    framing, headers, host,
    ongoing::{Exchange, Way},
    path::comparable,
    streams,
    table::{Refusal, Rule, Table},
    target,
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
    let (mut parts, body) = request.into_parts();
    let asked = match Asked::of(&parts) {
        Ok(asked) => asked,
        Err(reason) => return Ok(refuse(reason, &view.table.stray)),
    };
    let trusted = view.http_terms.trusted_proxies.contains(connection.peer.address);
    // Before rules match headers: what nobody is to be believed leads nowhere.
    forwarding::tell(&mut parts.headers, asked.came(&connection, trusted));
    let picked = choose(&connection, &view.table, &parts, &asked);
    let (picked, pseudonym) = match picked.and_then(|rule| Ok((rule.pick()?, &rule.pseudonym))) {
        Ok(picked) => picked,
        Err(Refusal { reason, row }) => return Ok(refuse(reason, row)),
    };
    let row = &picked.row;
    let pending = Pending::new(row);
    let protocol = upgrade_of(&parts);
    let patient = headers::is_grpc(&parts.headers);
    let (shared, pulse) = (&connection.shared, connection.pulse.clone());
    let ongoing = Exchange::new(shared, row.clone(), pulse, streams::current(), patient);
    if let Some(inlet) = &connection.inlet {
        inlet.follow(&ongoing, Way::Upstream);
    }
    let mut head = for_endpoint(parts, asked, protocol.clone());
    framing::tell_of_request(&mut head.headers, &body);
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
        Err(reason) => return Ok(refuse(ongoing.ended().unwrap_or(reason), row)),
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

/// What a request asks for.
struct Asked {
    host: Option<Authority>,
    /// The host as a header has it.
    host_value: Option<HeaderValue>,
    resource: PathAndQuery,
}

impl Asked {
    /// What this request asks for, or why that can't be told.
    fn of(request: &Parts) -> Result<Self, ErrorReason> {
        if request.method == Method::CONNECT {
            return Err(ErrorReason::MethodNotSupported);
        }
        framing::is_chunked(&request.headers)
            .map_err(|framing::UnknownCoding| ErrorReason::CodingNotSupported)?;
        let host = host::authority(request).map_err(|host::BadHost| ErrorReason::BadHost)?;
        let resource =
            target::resource(request).map_err(|target::BadTarget| ErrorReason::BadTarget)?;
        let host_value = host.as_ref().and_then(|host| host_value(&request.headers, host));
        Ok(Self { host, host_value, resource })
    }

    fn came<'a>(&self, connection: &'a Connection, trusted: bool) -> Came<'a> {
        let Connection { peer, security, .. } = connection;
        let tls = matches!(security, Security::Tls { .. });
        Came { peer, tls, host: self.host_value.clone(), trusted }
    }
}

/// The host as a header has it: the Host header that came, if that says the same.
fn host_value(headers: &HeaderMap, host: &Authority) -> Option<HeaderValue> {
    let came = headers.get(HOST).filter(|value| value.as_bytes() == host.as_str().as_bytes());
    came.cloned().or_else(|| HeaderValue::try_from(host.as_str()).ok())
}

/// The protocol that a request would upgrade its connection to. HTTP/1.0 has no upgrades (RFC 9110, section
/// 7.8).
fn upgrade_of(request: &Parts) -> Option<HeaderValue> {
    if request.version == Version::HTTP_11 { headers::upgrade(&request.headers) } else { None }
}

/// The rule that a request takes.
fn choose<'t>(
    connection: &Connection,
    table: &'t Table,
    request: &Parts,
    asked: &Asked,
) -> Result<&'t Rule, Refusal<'t>> {
    let stray = |reason| Refusal { reason, row: &table.stray };
    let host = asked.host.as_ref().map(|host| host::normal(host.host()));
    let host = host.as_deref();
    let listener = table.listener(host).ok_or(stray(ErrorReason::NoListener))?;
    if let Security::Tls { server_name } = &connection.security {
        let shown = table.listener(server_name.as_deref());
        if shown.is_none_or(|shown| shown.id != listener.id) {
            return Err(stray(ErrorReason::Misdirected));
        }
    }
    let unmatched = Refusal { reason: ErrorReason::NoRoute, row: &listener.unmatched };
    let path = comparable(asked.resource.path());
    let rule = listener.rule(host, &path, &request.headers).ok_or(unmatched)?;
    if rule.pseudonym.is_in(&request.headers) {
        let row = &rule.weightless;
        connection.shared.tell_loop(&row.labels, connection.peer.address);
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
fn for_endpoint(mut head: Parts, asked: Asked, upgrade: Option<HeaderValue>) -> Parts {
    head.uri = Uri::from(asked.resource);
    head.version = Version::HTTP_11;
    headers::strip_hop_by_hop(&mut head.headers);
    headers::join_cookies(&mut head.headers);
    if let Some(protocol) = upgrade {
        headers::set_upgrade(&mut head.headers, protocol);
    }
    // A request of HTTP/1.0 may name no host. To an endpoint HTTP/1.1 is spoken, where there has to be one.
    let host = asked.host_value.unwrap_or(HeaderValue::from_static(""));
    head.headers.insert(HOST, host);
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
    framing::tell_of_answer(response.headers_mut()).ok()?;
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
