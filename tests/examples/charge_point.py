"""Goal: examples/ocpp.rs and a charge point that it does not know, of the package `ocpp`, agree on
OCPP 1.6J, through SIGTERM and `kill -9` between a request and its answer: no transaction is lost, and
none is opened twice.
Method: the built example on SQLite, whose book is read at the end; a station that sends a call again,
with the same id, until it is answered.

    charge_point.py EXAMPLE
"""

import asyncio
import base64
import json
import logging
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import unittest
import uuid
from datetime import datetime, timezone
from pathlib import Path

from ocpp.exceptions import NotImplementedError as NotImplementedByCentral
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

PATIENCE = 20
# No more than the example keeps.
TRANSACTIONS = 25
EXAMPLE = ""


def timestamp():
    return datetime.now(timezone.utc).isoformat()


class Central:
    """A central system: the process, and where it is."""

    def __init__(self, directory, store=None):
        arguments = [EXAMPLE, "--listen", "127.0.0.1:0", "--admin", "off"]
        arguments += ["--store", store or f"sqlite:{directory}/ocpp.db"]
        arguments += ["--charge-points", f"{directory}/charge-points"]
        with open(f"{directory}/log", "ab") as log:
            self.process = subprocess.Popen(
                arguments,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self.until("listening on ").split()[-1]
        self.until("ready")

    def until(self, words):
        for line in self.process.stdout:
            if line.startswith(words):
                return line
        raise AssertionError(f"the central system never said {words!r}")

    def command(self, line):
        """Calls a charge point, and returns whether that was taken."""
        print(line, file=self.process.stdin, flush=True)
        return self.until("call ").rstrip().endswith(" is on its way")

    async def ended(self, by):
        code = await asyncio.to_thread(self.process.wait, PATIENCE)
        expected = -signal.SIGKILL if by == signal.SIGKILL else 0
        assert code == expected, f"exit code {code} after {by!r}"
        self.dispose()

    def dispose(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Station(ChargePoint):
    """A charge point that comes back, and sends a call again until it is answered."""

    def __init__(self, identity, password):
        super().__init__(identity, None)
        credentials = base64.b64encode(f"{identity}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}"}
        self.central = None
        self.connected = asyncio.Event()
        self.lost = asyncio.Event()
        self.sent = asyncio.Event()
        # While it is not set, what arrives is not read.
        self.listens = asyncio.Event()
        self.listens.set()
        # What the central system has called for.
        self.told = []

    async def stay_connected(self):
        while True:
            try:
                url = f"{self.central.url}/ocpp/{self.id}"
                headers = self.headers
                async with connect(
                    url, subprotocols=["ocpp1.6"], additional_headers=headers, proxy=None
                ) as connection:
                    assert connection.subprotocol == "ocpp1.6"
                    self._connection = connection
                    self.lost = asyncio.Event()
                    self.connected.set()
                    await self.start()
            except (OSError, ConnectionClosed, InvalidHandshake):
                self.connected.clear()
                self.lost.set()
                await asyncio.sleep(0.01)

    @on("RemoteStartTransaction")
    def told_to_start(self, **told):
        self.told.append(told)
        return call_result.RemoteStartTransaction(status="Accepted")

    @on("Reset")
    def told_to_reset(self, **told):
        self.told.append(told)
        return call_result.Reset(status="Accepted")

    async def route_message(self, raw):
        connection = self._connection
        await self.listens.wait()
        # What was not read before the connection was lost is lost with it.
        if connection is self._connection and not self.lost.is_set():
            await super().route_message(raw)

    async def _send(self, message):
        await super()._send(message)
        self.sent.set()

    async def ask(self, request):
        """The answer to a call, however often it has to be sent."""
        unique_id = str(uuid.uuid4())
        while True:
            await self.connected.wait()
            self.sent.clear()
            answer = asyncio.ensure_future(
                self.call(request, suppress=False, unique_id=unique_id)
            )
            lost = asyncio.ensure_future(self.lost.wait())
            await asyncio.wait({answer, lost}, return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if answer.done():
                try:
                    return answer.result()
                except ConnectionClosed:
                    continue
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def begin(self, meter):
        request = call.StartTransaction(
            connector_id=1, id_tag="tag", meter_start=meter, timestamp=timestamp()
        )
        return (await self.ask(request)).transaction_id

    async def read(self, transaction, meter):
        sampled = [{"value": str(meter), "measurand": "Energy.Active.Import.Register"}]
        values = [{"timestamp": timestamp(), "sampled_value": sampled}]
        request = call.MeterValues(
            connector_id=1, transaction_id=transaction, meter_value=values
        )
        await self.ask(request)

    async def finish(self, transaction, meter):
        request = call.StopTransaction(
            transaction_id=transaction, meter_stop=meter, timestamp=timestamp()
        )
        await self.ask(request)


class Charging(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        (self.directory / "charge-points").write_text("CP-1 secret\nCP-2 other\n")
        self.central = Central(self.directory)
        self.addCleanup(lambda: self.central.dispose())
        self.station = Station("CP-1", "secret")
        self.station.central = self.central
        staying = asyncio.create_task(self.station.stay_connected())
        self.addCleanup(staying.cancel)

    async def replace(self, by):
        """Ends the central system now. The next one starts beside it, or after a crash."""
        old = self.central
        old.process.send_signal(by)
        if by == signal.SIGKILL:
            await old.ended(by)
        self.central = await asyncio.to_thread(Central, self.directory)
        self.station.central = self.central
        if by != signal.SIGKILL:
            await old.ended(by)

    def book(self):
        """What is committed."""
        store = sqlite3.connect(f"file:{self.directory}/ocpp.db?mode=ro", uri=True)
        row = store.execute("SELECT state FROM session WHERE id = 'CP-1'").fetchone()
        store.close()
        return json.loads(row[0]) if row and row[0] else {"transactions": []}

    async def until(self, holds):
        async def ask():
            while not holds():
                await asyncio.sleep(0.005)

        await asyncio.wait_for(ask(), PATIENCE)

    async def test_a_day_of_a_charge_point(self):
        ask = self.station.ask
        boot = await ask(
            call.BootNotification(charge_point_vendor="Vendor", charge_point_model="Model")
        )
        self.assertEqual((boot.status, boot.interval), ("Accepted", 300))
        told = (await ask(call.Heartbeat())).current_time.replace("Z", "+00:00")
        age = datetime.now(timezone.utc) - datetime.fromisoformat(told)
        self.assertLess(abs(age.total_seconds()), PATIENCE)
        await ask(
            call.StatusNotification(connector_id=1, error_code="NoError", status="Available")
        )
        info = (await ask(call.Authorize(id_tag="tag"))).id_tag_info
        self.assertEqual(info["status"], "Accepted")
        first = await self.station.begin(100)
        await self.station.read(first, 150)
        await self.station.read(first, 180)
        await self.station.finish(first, 200)
        second = await self.station.begin(200)
        self.assertNotEqual(first, second)
        with self.assertRaises(NotImplementedByCentral):
            await ask(call.DataTransfer(vendor_id="vendor"))
        book = self.book()
        self.assertEqual(book["model"], "Vendor Model")
        self.assertEqual(book["connectors"], {"1": "Available"})
        over, running = book["transactions"]
        self.assertEqual((over["id"], over["meterStart"], over["readings"]), (first, 100, 2))
        self.assertEqual(over["stopped"]["meterStop"], 200)
        self.assertEqual((running["id"], running["stopped"]), (second, None))

    async def test_it_is_called(self):
        def said(what):
            return (self.directory / "log").read_text().count(what)

        command = self.central.command
        self.assertFalse(command('CP-2 Reset {"type":"Hard"}'))
        await self.station.connected.wait()
        self.assertFalse(command("CP-1 Reset"))
        self.assertFalse(command("CP-1 Reset soft"))
        start = {"id_tag": "tag", "connector_id": 1}
        self.assertTrue(
            command('CP-1 RemoteStartTransaction {"idTag":"tag","connectorId":1}')
        )
        self.assertTrue(command('CP-1 Reset {"type":"Soft"}'))
        await self.until(lambda: len(self.station.told) == 2)
        self.assertEqual(self.station.told, [start, {"type": "Soft"}])
        await self.until(lambda: said("CP-1 answers") == 2)
        self.assertEqual(said('[{"status":"Accepted"}]'), 2)

    async def test_it_is_called_while_it_is_away(self):
        station = Station("CP-2", "other")
        station.central = self.central
        staying = asyncio.create_task(station.stay_connected())
        await station.connected.wait()
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        self.assertTrue(self.central.command('CP-2 Reset {"type":"Hard"}'))
        await self.replace(signal.SIGKILL)
        station.central = self.central
        staying = asyncio.create_task(station.stay_connected())
        self.addCleanup(staying.cancel)
        await self.until(lambda: station.told)
        self.assertEqual(station.told, [{"type": "Hard"}])

    async def test_a_wrong_password(self):
        with self.assertRaises(InvalidStatus) as refused:
            headers = {"Authorization": "Basic " + base64.b64encode(b"CP-1:other").decode()}
            url = f"{self.central.url}/ocpp/CP-1"
            await connect(url, subprotocols=["ocpp1.6"], additional_headers=headers, proxy=None)
        response = refused.exception.response
        self.assertEqual(response.status_code, 401)
        self.assertTrue(response.headers["WWW-Authenticate"].startswith("Basic "))

    async def test_killed_before_it_has_read_the_request(self):
        await self.station.connected.wait()
        self.central.process.send_signal(signal.SIGSTOP)
        self.station.sent.clear()
        beginning = asyncio.create_task(self.station.begin(1))
        await self.station.sent.wait()
        await self.replace(signal.SIGKILL)
        transaction = await beginning
        self.assertEqual([it["id"] for it in self.book()["transactions"]], [transaction])

    async def test_killed_before_its_answer_has_arrived(self):
        await self.station.connected.wait()
        self.station.listens.clear()
        beginning = asyncio.create_task(self.station.begin(1))
        await self.until(lambda: self.book()["transactions"])
        [committed] = self.book()["transactions"]
        await self.replace(signal.SIGKILL)
        self.station.listens.set()
        self.assertEqual(await beginning, committed["id"])
        self.assertEqual(len(self.book()["transactions"]), 1)

    async def test_transactions_in_a_storm(self):
        """Of each five requests, one meets the end of a central system."""
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        station, done, ends = self.station, [], 0

        async def through(asking):
            nonlocal ends
            await station.connected.wait()
            if dice.random() > 0.2:
                return await asking
            station.sent.clear()
            answer = asyncio.ensure_future(asking)
            await station.sent.wait()
            await asyncio.sleep(dice.choice([0, 0.0005, 0.001, 0.002]))
            await self.replace(dice.choice([signal.SIGKILL, signal.SIGTERM]))
            ends += 1
            return await answer

        for number in range(TRANSACTIONS):
            transaction = await through(station.begin(number))
            for _ in range(3):
                await through(station.read(transaction, number))
            await through(station.finish(transaction, number + 1))
            done.append(transaction)
        with self.subTest(seed=seed, ends=ends):
            book = self.book()
            self.assertEqual([it["id"] for it in book["transactions"]], done)
            self.assertEqual(len(set(done)), len(done))
            self.assertEqual(book["opened"], len(done))
            for number, it in enumerate(book["transactions"]):
                told = (it["meterStart"], it["readings"], it["stopped"]["meterStop"])
                self.assertEqual(told, (number, 3, number + 1))
            self.assertGreater(ends, 5)


if __name__ == "__main__":
    EXAMPLE = str(Path(sys.argv[1]).resolve())
    # It tells of each call that is refused or answered twice, which is what is tested.
    logging.getLogger("ocpp").setLevel(logging.CRITICAL)
    outcome = unittest.main(argv=[sys.argv[0], *sys.argv[2:]], exit=False).result
    failed = len(outcome.failures) + len(outcome.errors)
    # As cargo says it: scripts/count-tests.sh reads it.
    word = "FAILED" if failed else "ok"
    print(f"test result: {word}. {outcome.testsRun - failed} passed; {failed} failed")
    sys.exit(1 if failed else 0)
