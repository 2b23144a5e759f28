"""The benches by name, in the order in which they run, and the question that each answers."""

from __future__ import annotations

BENCHES = {
    "init": ("bench_init", "how long until every worker is ready, beside one import of what is preloaded"),
    "ready-workers": ("bench_ready_workers", "how long until N killed workers are replaced, beside N panes that import for themselves"),
    "idle": ("bench_idle", "what a swarm costs that does nothing: memory by process, CPU of controller and of 32 workers"),
    "tasks": ("bench_tasks", "no-op tasks, one task at a time, chunked map, beside process pools, loky, Ray and Dask"),
    "contexts": ("bench_contexts", "what the look at the process after a task costs, and a worker replaced for another program"),
    "commands": ("bench_commands", "commands a second, captured and recorded, beside posix_spawn, GNU parallel and task-spooler"),
    "link": ("bench_link", "round trips and messages a second of the FIFO link, beside multiprocessing.Pipe"),
    "arrays": ("bench_arrays", "an array to a worker and one back, beside multiprocessing.shared_memory and the work alone"),
    "cores": ("bench_cores", "cores that NumPy work really uses, beside a hand-written script; small products with and without limits"),
    "cli": ("bench_cli", "a hot verb as a whole process, beside python -c pass"),
    "dashboard": ("bench_dashboard", "CPU of the dashboard with 100 workers, and its first paint beside a trivial Textual app"),
    "queue-depth": ("bench_queue_depth", "tasks a second and memory per task with 1,000,000 queued tasks, beside 1,000 queued"),
    "many-workers": ("bench_many_workers", "200 workers started, listed and attached: time and memory"),
    "soak": ("bench_soak", "growth of the controller's memory, descriptors and files over 200,000 tasks"),
    "storm": ("bench_storm", "whether anything is lost when workers and controllers are killed under load"),
}
