"""What the service answers, from the table and over HTTP."""

# ruff: noqa: PT009, PT027

import json
import unittest
import urllib.error
import urllib.request
from threading import Thread

from server.__main__ import Handler, Server
from server.answers import answer


class Answers(unittest.TestCase):
    """The table, without a server."""

    def test_a_day_of_a_shop(self) -> None:
        """The row that was asked for, and no other."""
        text, rows = answer("When is the shop in Leeds open on Sunday?")
        self.assertEqual(text, "Our shop in Leeds, Sunday: 11:00 to 16:00.")
        self.assertEqual(rows, ["Leeds, Sunday: 11:00 to 16:00"])

    def test_a_shop_that_is_not_named(self) -> None:
        """A question back, which no row answers."""
        self.assertEqual(answer("Are you open today?"), ("Which shop do you mean: Leeds or York?", []))


class Service(unittest.TestCase):
    """Over HTTP."""

    def setUp(self) -> None:
        """Serve on a free port."""
        server = Server(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.01,)).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"

    def post(self, path: str, data: object) -> str:
        """What is said to a question."""
        request = urllib.request.Request(self.url + path, json.dumps(data).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            text: str = response.read().decode()
        return text

    def test_both_forms_say_the_same(self) -> None:
        """The words of a stream are those of the whole answer."""
        question = {"question": "Is York open on Monday or on Christmas Day?"}
        whole = json.loads(self.post("/ask", question))
        *words, sources, done, _ = self.post("/stream", question).split("\n\n")
        self.assertEqual(done, "data: [DONE]")
        self.assertEqual(json.loads(sources.removeprefix("data: ")), {"sources": whole["sources"]})
        said = "".join(json.loads(word.removeprefix("data: "))["delta"] for word in words)
        self.assertEqual(said, whole["answer"]["text"])

    def test_what_is_no_question_is_refused(self) -> None:
        """With what to send instead."""
        with self.assertRaises(urllib.error.HTTPError) as raised:
            self.post("/ask", ["?"])
        self.assertEqual(raised.exception.code, 422)
        raised.exception.close()


if __name__ == "__main__":
    unittest.main()
