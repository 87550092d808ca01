"""What the agent finds in the handbook, without a model."""

# ruff: noqa: PT009

import re
import unittest

from handbook import agent


class Retrieval(unittest.TestCase):
    """Which sections a question brings up."""

    def test_the_section_asked_for_comes_first(self) -> None:
        """Words of the question decide, in any form."""
        self.assertTrue(agent.retrieved("Who approves a flight?")[0].startswith("### Travel\n"))
        self.assertTrue(agent.retrieved("May I bring my dogs?")[0].startswith("### Dogs\n"))
        self.assertEqual(len(agent.retrieved("anything")), agent.PASSAGES)

    def test_the_model_is_the_agent_files(self) -> None:
        """The code asks the model that the agent file names, as it says."""
        text = (agent.ROOT / "agents/handbook.yaml").read_text(encoding="utf-8")
        for key, value in {**agent.MODEL, "name": agent.MODEL["model"]}.items():
            if key != "model":
                self.assertRegex(text, rf"(?m)^    {key}: {re.escape(str(value))}$")


if __name__ == "__main__":
    unittest.main()
