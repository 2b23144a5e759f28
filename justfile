# The verbs of this repository. Each is a script, so that nobody needs `just`.

# list the verbs
default:
    @just --list

# environment in .venv, the package, torch that fits the machine, tmux
setup *args:
    scripts/setup --dev {{args}}

# lint, format, types, import contracts, sizes, links
check:
    scripts/check

# the whole suite, or what pytest is told
test *args:
    scripts/test {{args}}

# simulation under many seeds, and kills in a real swarm
chaos *args:
    scripts/test tests/sim tests/chaos {{args}}

# figures beside their peers; `just bench compare -2 -1` compares two runs
bench *args:
    scripts/bench {{args}}

# do the benches work? the least sizes, no measurement
bench-small *args:
    scripts/bench --small --rounds 1 {{args}}

# do the documents hold together
docs:
    scripts/check_links.py

# a swarm of four with the sample job
run *args:
    scripts/start {{args}}

# remove what builds and tests leave behind
clean:
    scripts/clean
