"""What the trainers of this folder share: sizes, and the conversation with `run.py`."""
import json, resource, sys, time

LLAMA = {  # d, layers, heads, ffn, vocab, T, B
    "s": (256, 4, 4, 688, 4096, 256, 8),
    "m": (512, 8, 8, 1376, 8192, 512, 4),
    "x": (256, 4, 4, 688, 4096, 2048, 1),
    "v": (256, 2, 4, 688, 42000, 256, 8),
}
GPT2 = (768, 12, 12, 3072, 50257, 64, 4)


def serve(step):
    """Reads numbers of steps from standard input; answers each with a line of times."""
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(json.dumps({"seconds": seconds, "peak_rss_mb": peak}), flush=True)
