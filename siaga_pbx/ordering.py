"""What is asked about dispatches, by the API or by a command, becomes an order to the dispatcher."""

from siaga_pbx.dispatch.dispatcher import Dispatcher
from siaga_pbx.dispatch.order import Cancel, Order, Place, Receipt, Update
from siaga_pbx.web.centre import CancelRequest, DispatchAsked, DispatchRequest, Report, UpdateRequest


async def place_order(dispatcher: Dispatcher, call_id: str, asked: DispatchAsked) -> Receipt:
    """Returns once it is durable. Raises OrderRefused, StoreUnavailable; then nothing was written."""
    match asked:
        case DispatchRequest():
            return await dispatcher.dispatch(
                Order(
                    call_id,
                    asked.category,
                    note=asked.note,
                    address=asked.address,
                    people=asked.people,
                    place=_place(asked),
                    protected=asked.protected,
                )
            )
        case UpdateRequest():
            return await dispatcher.update(
                Update(
                    call_id,
                    asked.category,
                    asked.incident_id,
                    note=asked.note,
                    address=asked.address,
                    people=asked.people,
                    place=_place(asked),
                    protected=asked.protected,
                )
            )
        case CancelRequest():
            return await dispatcher.cancel(Cancel(call_id, asked.category, asked.agency, asked.reason))


def _place(asked: Report) -> Place | None:
    place = asked.place
    return None if place is None else Place(place.lat, place.lon, place.radius_m, place.method)
