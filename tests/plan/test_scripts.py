"""What the planner's scripts say of input that is no input: one line, and an exit code."""
import os
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts")


class Scripts(unittest.TestCase):
    def refused(self, script, *args):
        done = subprocess.run([os.path.join(SCRIPTS, script), *args], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertTrue(done.stderr.startswith(script), done.stderr)
        return done.stderr

    def test_plan_plot__files_that_are_missing(self):
        with tempfile.TemporaryDirectory() as empty:
            self.assertIn("sluice-plan figures --out", self.refused("plan-plot", empty))

    def test_plan_predict__no_directory_of_a_run(self):
        with tempfile.TemporaryDirectory() as empty:
            self.assertIn("edge.jsonl", self.refused("plan-predict", empty))

    def test_stability_plot__no_result(self):
        with tempfile.TemporaryDirectory() as d:
            file = os.path.join(d, "result.json")
            self.assertIn("No such file", self.refused("stability-plot", file, os.path.join(d, "out.svg")))
            for text in "", "{", "{}", "[]", '{"cells": 3}', '{"cells": [{"alpha": 1}]}', "\0":
                with open(file, "w") as f:
                    f.write(text)
                self.assertIn("not what `sluice-train stability --json` prints", self.refused("stability-plot", file, os.path.join(d, "out.svg")))


if __name__ == "__main__":
    unittest.main()
