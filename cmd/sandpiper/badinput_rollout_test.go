package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"
)

// badRollouts are rollouts that cannot be, and a record of them that somebody
// changed. The device has no rollout by a plan before and after.
func badRollouts() []badRow {
	start := func(args ...string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			a := w.cli(append([]string{"rollout", "start", "pump:v1"}, args...)...)
			if under := w.cli("rollout", "pause", badModel); under.code == "exit 0" {
				w.t.Error("a rollout was started")
			}
			return a
		}
	}
	file := func(toml string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			return start("--to", "all", "--plan", w.write("plan.toml", []byte(toml)))(w)
		}
	}
	return []badRow{
		{"filter/unknown field", func(w *badWorld) answer { return w.cli("fleet", "ls", "not (kernal!=generic)") }, "exit 2", []string{`filter, character 6: no device has a label "kernal", and it is no other field; did you mean "kernel"?`}},
		{"filter/no filter", func(w *badWorld) answer { return w.cli("fleet", "ls", "site=") }, "exit 2", []string{"filter, character 6: want a value, not the end"}},
		{"rollout/unknown filter field", start("--to", "kernal!=generic"), "exit 2", []string{`roll out pump:v1 to kernal!=generic: invalid target: filter, character 1`, `did you mean "kernel"?`}},
		{"rollout/selects no device", start("--to", "arch=mips"), "exit 3", []string{"arch=mips selects no devices; `sandpiper fleet ls` with a filter shows what it selects"}},
		{"rollout/unknown device", start("--to", "pump-11"), "exit 3", []string{`device "pump-11": not found; did you mean "pump-1"?`}},
		{"rollout/by a plan/selects no device", start("--to", "arch=mips", "--stage", "1", "--no-quality"), "exit 3", []string{"arch=mips selects no devices; "}},
		{"rollout/no plan of that name", start("--to", "all", "--plan", "shadow-fist"), "exit 2", []string{`"shadow-fist" has no stages and is none of shadow-first,`, `did you mean "shadow-first"?`}},
		{"rollout/stage of nobody", start("--to", "all", "--stage", "0"), "exit 2", []string{`--stage: "0" is no number of devices; write 100 or 10%`}},
		{"rollout/stages that shrink", start("--to", "all", "--stage", "10%", "--stage", "5%"), "exit 2", []string{`stage 2, "5 %": devices: 5 %, and stage 1 has 10 % already; stages grow`}},
		{"rollout/one stage where several are listed", file("[stage]\ndevices = \"1\"\n"), "exit 2", []string{"plan.toml:1:2: stage: a table where an array of tables is expected; begin each with [[stage]]"}},
		{"rehearse/fleet of nobody", func(w *badWorld) answer {
			return w.cli("rollout", "rehearse", "--scenario", w.write("nobody.toml", []byte("seed = 1\ndevices = 0\n")))
		}, "exit 2", []string{"nobody.toml:2:1: devices: must be above 0; leave it out for the default"}},
		{"rollout/unknown key of a plan", file("[[stage]]\ndevices = \"1\"\ndealine = \"1h\"\n"), "exit 2", []string{"plan.toml:3:1: "}},
		{"rollout/limit that cannot be", file("[[stage]]\ndevices = \"100%\"\nchecks = { max_failed = 2 }\n"), "exit 2", []string{"plan.toml:3:"}},
		{"rollout/check that will have no data", func(w *badWorld) answer {
			a, out := w.command("rollout", "start", "pump:v2", "--to", "all", "--stage", "1", "--dry-run")
			return answer{a.code, out + a.text}
		}, "exit 0", []string{"there is nothing to compare with: the quality check will have no data"}},
		{"rollout/promotes what is not under way", func(w *badWorld) answer { return w.cli("rollout", "promote", badModel) }, "exit 8", []string{"no staged rollout is under way; `rollout start` with --plan or --stage begins one"}},
		{"audit/changed byte", func(w *badWorld) answer {
			head := w.must("audit", "verify", "-o", "name")
			db, err := sql.Open("sqlite", filepath.Join(w.dir, "control.db"))
			w.check(err)
			defer db.Close()
			var trigger, was string
			w.check(db.QueryRow(`SELECT sql FROM sqlite_master WHERE name = 'audit_no_update'`).Scan(&trigger))
			w.check(db.QueryRow(`SELECT who FROM audit WHERE seq = 3`).Scan(&was))
			set := func(who string) {
				for _, statement := range []string{`DROP TRIGGER audit_no_update`, `UPDATE audit SET who = '` + who + `' WHERE seq = 3`, trigger} {
					_, err := db.Exec(statement)
					w.check(err)
				}
			}
			changed := []byte(was)
			changed[0] ^= 1
			set(string(changed))
			a := w.cli("audit", "verify")
			// What comes after it is still recorded, and what it says still served.
			w.must("model", "tag", "pump:v1", "audited")
			w.must("history", badDevice)
			set(was)
			if after := w.must("audit", "verify", "-o", "name"); after == head {
				w.t.Error("nothing was recorded meanwhile")
			}
			w.must("audit", "verify", "--head", string(bytes.TrimSpace([]byte(head))))
			return a
		}, "exit 8", []string{"audit chain is broken: entry 3 of ", "is not what was written, or not in its place"}},
		{"audit/another head", func(w *badWorld) answer {
			b, err := os.ReadFile(w.path("request.json"))
			w.check(err)
			return w.cli("audit", "verify", "--head", string(b))
		}, "exit 2", []string{"invalid head of an audit chain", "want SEQ:HASH, as `audit verify` prints it"}},
	}
}
