use l4way_proxy_core::EndpointFailure;
use l4way_session::{CloseReason, Toward};

use super::{
    pump::{Broken, Moved},
    session::{Session, Step, downstream_reason, upstream_reason},
    side::Io,
};
use crate::context::Context;

impl Session {
    /// Moves what there is in both directions.
    pub(super) fn relay(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        self.moved = ctx.tenths;
        let before = (self.upward.bytes, self.downward.bytes);
        let moved = self.pump_both(io);
        if !self.judged {
            self.judge(ctx, moved.err());
        }
        self.row.add_bytes(Toward::Upstream, self.upward.bytes - before.0);
        self.row.add_bytes(Toward::Downstream, self.downward.bytes - before.1);
        match moved {
            Err(reason) => {
                if reason == CloseReason::UpstreamLost {
                    ctx.health.failed(self.upstream.of(), EndpointFailure::Timeout, ctx.now);
                }
                Step::End(reason)
            }
            Ok(Moved::Turn) => Step::GoOn,
            Ok(Moved::AllThereIs) if self.upward.finished && self.downward.finished => {
                Step::End(CloseReason::Closed)
            }
            Ok(Moved::AllThereIs) => self.watch_blocked(ctx),
        }
    }

    fn pump_both(&mut self, io: &mut Io) -> Result<Moved, CloseReason> {
        let Self { down, up: Some(up), upward, downward, .. } = self else {
            return Ok(Moved::AllThereIs);
        };
        let upward_moved = match upward.pump(io, down, up, downward.finished) {
            Ok(moved) => moved,
            Err(broken) => {
                // What the endpoint said before it broke is still the client's.
                if let Broken::To(_) = broken {
                    let _ = downward.pump(io, up, down, false);
                }
                return Err(match broken {
                    Broken::From(error) => downstream_reason(error),
                    Broken::To(error) => upstream_reason(error),
                });
            }
        };
        let downward_moved =
            downward.pump(io, up, down, upward.finished).map_err(|broken| match broken {
                Broken::From(error) => upstream_reason(error),
                Broken::To(error) => downstream_reason(error),
            })?;
        if upward_moved == Moved::Turn || downward_moved == Moved::Turn {
            return Ok(Moved::Turn);
        }
        // Errors that no read or write has met: the peer of a side that is not read now, because it
        // has ended or because the other side is slow.
        down.take_error().map_err(downstream_reason)?;
        up.take_error().map_err(upstream_reason)?;
        Ok(Moved::AllThereIs)
    }

    /// Sees to it that an event comes when a side that is full has room again.
    fn watch_blocked(&mut self, ctx: &Context) -> Step {
        let mut is_blocked = false;
        if self.downward.has_unsent() || self.down.has_sealed() {
            is_blocked = true;
            if let Err(error) = self.down.watch_writes(ctx) {
                return Step::End(downstream_reason(error));
            }
        }
        if let Some(up) = &mut self.up
            && (self.upward.has_unsent() || up.has_sealed())
        {
            is_blocked = true;
            if let Err(error) = up.watch_writes(ctx) {
                return Step::End(upstream_reason(error));
            }
        }
        if is_blocked {
            self.stalled_since.get_or_insert(ctx.now);
        } else {
            self.stalled_since = None;
        }
        Step::Wait
    }
}
