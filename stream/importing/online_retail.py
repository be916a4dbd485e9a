"""UCI Online Retail: the order lines of a British gift wholesaler, grouped into one order per invoice.

CSV with a header; the headings of the second edition (Online Retail II) are understood too.
Invoice numbers that start with C are cancellations; the data do not say which order they take back, so the
refund carries the cancellation's own number as ``order_id``. Times carry no zone and are read as UTC; a zone
that one does carry is heeded.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stream.importing.canonical import (
    EARLIEST_MS,
    LATEST_MS,
    Intake,
    Reason,
    Timed,
    encode_event,
    number,
)
from stream.importing.columns import comma_fields, table
from stream.importing.lines import Line

__all__ = ["MAX_PRODUCTS", "online_retail_events"]

# Wholesale invoices have over a thousand lines; 200 products are about 20 KiB, a third of the record limit.
MAX_PRODUCTS = 200
_CURRENCY = "GBP"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_COLUMNS = {
    "invoice": ("InvoiceNo", "Invoice"),
    "item": ("StockCode",),
    "name": ("Description",),
    "quantity": ("Quantity",),
    "time": ("InvoiceDate",),
    "price": ("UnitPrice", "Price"),
    "customer": ("CustomerID", "Customer ID"),
}


class _OrderLine(NamedTuple):
    item_id: str
    name: str
    quantity: int
    price: float


@dataclass(slots=True)
class _Invoice:
    """The lines of one invoice that say something; its time, customer and place are those of the first."""

    line_number: int
    time_ms: int
    customer: str
    lines: list[_OrderLine] = field(default_factory=list)


def online_retail_events(lines: Iterator[Line], intake: Intake) -> Iterator[Timed]:
    """Translate the order lines into orders and refunds, in order of time.

    An order of more than :data:`MAX_PRODUCTS` lines becomes several events of one ``order_id``, each with the
    total of its own products.
    """
    invoices = _group(lines, intake)
    # By time before the items are seen, so that the catalogue ends with the latest name and price.
    for number_, invoice in sorted(invoices.items(), key=lambda pair: pair[1].time_ms):
        if not intake.admit(invoice.time_ms, len(invoice.lines)):
            continue
        cancelled = _is_cancellation(number_)
        if not cancelled:
            for line in invoice.lines:
                intake.see(
                    line.item_id,
                    invoice.time_ms,
                    name=line.name or None,
                    price=line.price,
                    currency=_CURRENCY,
                )
        event = "Order Refunded" if cancelled else "Order Completed"
        user = {"userId": invoice.customer} if invoice.customer else {"anonymousId": f"invoice:{number_}"}
        for part, first in enumerate(range(0, len(invoice.lines), MAX_PRODUCTS)):
            message_id = intake.message_id(invoice.line_number) + (f"#{part + 1}" if part else "")
            properties = _properties(number_, invoice.lines[first : first + MAX_PRODUCTS])
            yield Timed(invoice.time_ms, encode_event(message_id, user, invoice.time_ms, event, properties))


def _group(lines: Iterator[Line], intake: Intake) -> dict[str, _Invoice]:
    """Gather the usable lines of each invoice, in the order in which invoices appear."""
    invoices: dict[str, _Invoice] = {}
    for line_number, fields in table(lines, intake, comma_fields, _COLUMNS):
        invoice_number, item_id, name, quantity_text, time_text, price_text, customer = fields
        if not (invoice_number and item_id and quantity_text and time_text and price_text):
            intake.reject(Reason.MISSING_FIELD)
            continue
        quantity, price = number(quantity_text), number(price_text)
        if quantity is None or price is None or not quantity.is_integer():
            intake.reject(Reason.BAD_NUMBER)
            continue
        pieces = abs(int(quantity)) if _is_cancellation(invoice_number) else int(quantity)
        if pieces <= 0:
            intake.reject(Reason.QUANTITY_NOT_POSITIVE)
            continue
        if price <= 0:
            intake.reject(Reason.PRICE_NOT_POSITIVE)
            continue
        time_ms = _date_ms(time_text)
        if time_ms is None:
            intake.reject(Reason.BAD_TIME)
            continue
        invoice = invoices.get(invoice_number)
        if invoice is None:
            invoice = invoices[invoice_number] = _Invoice(line_number, time_ms, customer.removesuffix(".0"))
        # Some thousands of codes and names repeat over half a million lines: hold each once.
        invoice.lines.append(_OrderLine(sys.intern(item_id), sys.intern(name), pieces, price))
    return invoices


def _is_cancellation(invoice_number: str) -> bool:
    return invoice_number.startswith("C")


def _properties(order_id: str, lines: list[_OrderLine]) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "currency": _CURRENCY,
        "total": round(math.fsum(line.quantity * line.price for line in lines), 2),
        "products": [
            {
                "product_id": line.item_id,
                **({"name": line.name} if line.name else {}),
                "quantity": line.quantity,
                "price": line.price,
            }
            for line in lines
        ],
    }


def _date_ms(text: str) -> int | None:
    """``2010-12-01 08:26:00``, or ``12/1/2010 8:26`` as in the spreadsheet's own export; else UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    time_ms = (moment - _EPOCH) // _MILLISECOND
    return time_ms if EARLIEST_MS <= time_ms <= LATEST_MS else None
