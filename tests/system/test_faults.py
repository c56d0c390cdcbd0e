#!/usr/bin/python3
"""When things go wrong: deaths, hostile devices and full disks, in the whole system."""
import os
import signal
import subprocess
import time

from harness import MODEL, Run, Skip, experiment, one_line_error, phone_class, run_tests


def live_fleet(**changes):
    """Three phones, not deterministic: a gang goes on without one that is gone."""
    training = experiment()["training"]
    training.update(deterministic=False, gang={"quorum": 0.5, "deadline": 2})
    training.update(changes.pop("training", {}))
    # A quarter of a second a step, so that something can happen in mid-training.
    fleet = [phone_class("a", 2, compute_gflops=0.4), phone_class("b", 1, compute_gflops=0.4)]
    return experiment(fleet=fleet, plan={"cut": [2, 4]}, training=training, **{"run": {"steps": 20}, **changes})


def end_event(run):
    ends = run.events("edge", "end")
    assert ends, "sluice-edge wrote no end event"
    return ends[-1]


def test_a_phone_that_sends_nan_leaves_alone():
    with Run(live_fleet()) as run:
        run.run_both("--fault", "nan@3:0", "--fault", "absurd@5:1")
        refused = run.events("edge", "refused")
        assert len(refused) >= 2, refused
        losses = run.losses()
        assert len(losses) == 20 and all(l == l and l < 20 for l in losses), losses
        assert min(losses[10:]) < losses[0]


def test_a_device_that_dies_in_mid_message_gives_its_slot_back():
    with Run(live_fleet()) as run:
        sim, edge = run.start_sim("--fault", "die@4:2"), run.start_edge()
        codes = run.finish(edge, sim)
        assert codes[0] == 0, run.output(edge)[-2000:]
        assert len(run.losses()) == 20
        leaves = run.events("edge", "leave")
        assert any("device-00002" in str(e) for e in leaves), leaves
        ingest = end_event(run)["ingest"]
        assert ingest["slots_in_use"] == 0, ingest
        outstanding = ingest["granted"] - ingest["ready"] - ingest["grants_expired"] - ingest["grants_cancelled"]
        assert outstanding == 0, ingest


def test_edge_killed_and_restarted_resumes_from_its_checkpoint():
    with Run(live_fleet(run={"steps": 24})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "aggregate")) >= 2, "two aggregations", processes=(sim, edge))
        again = run.kill_and_restart(edge)
        codes = run.finish(again, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(again)[-3000:]}\n{run.output(sim)[-3000:]}"
        starts = run.events("edge", "start")
        assert [s["incarnation"] for s in starts] == [starts[0]["incarnation"], starts[0]["incarnation"] + 1]
        assert starts[0]["run"] == starts[1]["run"]
        steps = {e["step"] for e in run.events("edge", "step")}
        assert steps == set(range(1, 25)), sorted(steps)


def test_edge_killed_in_deterministic_mode_ends_with_the_same_adapter():
    """A checkpoint is a cut (rules T12): what came after it is done again, and the result is that of an undisturbed run."""
    images = []
    for disturbed in (False, True):
        what = experiment(fleet=[phone_class("a", 2, compute_gflops=0.4), phone_class("b", 1, compute_gflops=0.4)], plan={"cut": [2, 4]},
                          run={"steps": 20})
        with Run(what) as run:
            sim, edge = run.start_sim(), run.start_edge()
            if disturbed:
                run.wait_for(lambda: len(run.events("edge", "step")) >= 12, "step 12", processes=(sim, edge))
                edge = run.kill_and_restart(edge)
            codes = run.finish(edge, sim)
            assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
            images.append(run.adapter())
            with open(os.path.join(run.dir, "central.ids"), encoding="utf-8") as f:
                images.append(f.read())
    assert images[1] == images[3], "other windows were trained"
    assert images[0] == images[2], "the adapter differs"


def test_simulator_killed_and_restarted():
    """The edge survives its memif peer's death; a new fleet joins with the same certificates."""
    with Run(live_fleet(run={"steps": 20})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 5, "five steps", processes=(sim, edge))
        sim.send_signal(signal.SIGKILL)
        sim.wait()
        time.sleep(1)
        assert edge.poll() is None, run.output(edge)[-2000:]
        again = run.start_sim()
        codes = run.finish(edge, again)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(again)[-3000:]}"


def test_ctrl_c_ends_in_order():
    with Run(live_fleet(run={"steps": 200})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "aggregate")) >= 1, "an aggregation", processes=(sim, edge))
        for process in (edge, sim):
            process.send_signal(signal.SIGINT)
        codes = run.finish(edge, sim, timeout=30)
        assert codes == [130, 130], f"{codes}\n{run.output(edge)[-2000:]}\n{run.output(sim)[-2000:]}"
        assert os.path.exists(os.path.join(run.dir, "checkpoint.bin"))
        assert os.path.exists(os.path.join(run.dir, "central.ids"))


def refused(run, *, edge=None, sim=None, needle):
    """Both start; the named one must end with status 1 and a line that holds `needle`."""
    process = edge or sim
    run.finish(process, timeout=60)
    text = run.output(process)
    assert process.returncode == 1, (process.returncode, text[-1500:])
    assert needle in one_line_error(text), f"wanted '{needle}' in: {text[-800:]}"


def test_control_port_taken():
    with Run(live_fleet()) as run:
        first = run.start_edge()
        run.wait_for(lambda: run.events("edge", "start"), "the first edge", processes=(first,))
        with Run(run.experiment) as second:
            edge = second.start_edge()
            refused(second, edge=edge, needle=run.experiment["edge"]["control"])


def test_memif_peer_absent():
    what = live_fleet()
    what["edge"]["data"]["peer_timeout_s"] = 2
    with Run(what) as run:
        edge = run.start_edge()
        refused(run, edge=edge, needle="memif")
        assert "wait" in run.output(edge).lower()


def test_stale_memif_socket_is_replaced():
    with Run(experiment(run={"steps": 5})) as run:
        sim = run.start_sim()
        run.wait_for(lambda: os.path.exists(os.path.join(run.dir, "memif.sock")), "the socket", processes=(sim,))
        sim.kill()
        sim.wait()
        assert os.path.exists(os.path.join(run.dir, "memif.sock"))
        run.run_both()


def test_relative_run_directory():
    """As scripts/run gives it where the file says `dir: runs`."""
    with Run(experiment(run={"steps": 5})) as run:
        above, name = os.path.split(run.dir)
        run.cwd, run.dir_argument = above, name
        run.run_both()
        assert len(run.losses()) == 5


def test_no_experiment_file():
    with Run(experiment()) as run:
        os.remove(run.file)
        for start in (run.start_edge, run.start_sim):
            refused(run, edge=start(), needle="experiment.yaml")


def test_unknown_key_names_the_line():
    with Run(experiment()) as run:
        with open(run.file, "a", encoding="utf-8") as f:
            f.write("colour: red\n")
        for start in (run.start_edge, run.start_sim):
            refused(run, edge=start(), needle="colour")


def test_model_missing_or_truncated():
    with Run(experiment(model={"path": "/nonexistent/model"})) as run:
        for start in (run.start_edge, run.start_sim):
            refused(run, edge=start(), needle="/nonexistent/model")
    with Run(experiment()) as run:
        copy = os.path.join(run.dir, "model")
        os.mkdir(copy)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            with open(os.path.join(MODEL, name), "rb") as source, open(os.path.join(copy, name), "wb") as target:
                data = source.read()
                target.write(data[:len(data) // 2] if name == "model.safetensors" else data)
        run.experiment["model"]["path"] = copy
        run.write_experiment(run.experiment)
        for start in (run.start_edge, run.start_sim):
            refused(run, edge=start(), needle="model.safetensors")


def test_another_model_is_refused_with_a_sentence():
    with Run(experiment()) as run, Run(experiment()) as other:
        copy = os.path.join(other.dir, "model")
        subprocess.run(["cp", "-r", MODEL, copy], check=True)
        with open(os.path.join(copy, "config.json"), "a", encoding="utf-8") as f:
            f.write("\n")
        edge = run.start_edge()
        run.wait_for(lambda: run.events("edge", "start"), "the edge", processes=(edge,))
        run.write_experiment({**run.experiment, "model": {"path": copy}})
        sim = run.start_sim()
        refused(run, sim=sim, needle="model")


def test_device_without_a_valid_certificate():
    with Run(experiment()) as run, Run(experiment()) as other:
        run.start_edge()
        sim = run.start_sim("--pki", os.path.join(other.dir, "pki"))
        run.finish(sim, timeout=60)
        assert sim.returncode == 1, run.output(sim)[-1500:]
        assert "certificate" in one_line_error(run.output(sim)), run.output(sim)[-800:]


def test_full_server_refuses_the_next_device():
    what = live_fleet()
    what["edge"]["max_devices"] = 2
    with Run(what) as run:
        run.start_edge()
        sim = run.start_sim()
        run.wait_for(lambda: "full" in run.output(sim) or sim.poll() is not None, "a refusal", timeout=60)
        assert "full" in run.output(sim).lower(), run.output(sim)[-1500:]


def test_too_many_phones_for_the_text():
    with Run(experiment(fleet=[phone_class("a", 40)])) as run:
        sim = run.start_sim()
        refused(run, sim=sim, needle="phones")


def test_disk_full_while_writing_a_checkpoint():
    """A tmpfs of 1 MiB as run directory: it needs a mount, so root."""
    if os.geteuid() != 0:
        raise Skip("root, to mount a small tmpfs")
    with Run(live_fleet(run={"steps": 20})) as run:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", run.dir], capture_output=True).returncode:
            raise Skip("permission to mount a tmpfs")
        try:
            run.write_experiment(run.experiment)
            run.make_pki()
            sim, edge = run.start_sim(), run.start_edge()
            run.wait_for(lambda: os.path.exists(os.path.join(run.dir, "checkpoint.bin")), "a checkpoint", processes=(sim, edge))
            with open(os.path.join(run.dir, "filler"), "wb") as f:
                try:
                    while True:
                        f.write(b"0" * 65536)
                        f.flush()
                except OSError:
                    pass
            before = os.path.getsize(os.path.join(run.dir, "checkpoint.bin"))
            run.finish(edge, timeout=120)
            assert edge.returncode == 1
            assert os.path.getsize(os.path.join(run.dir, "checkpoint.bin")) == before
        finally:
            run.processes and [p.kill() for p in run.processes if p.poll() is None]
            subprocess.run(["umount", "-l", run.dir], check=False)


run_tests(globals())
