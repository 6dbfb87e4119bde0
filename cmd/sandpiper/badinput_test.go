package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
	runs "github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A badRow is one thing that is wrong, and how the product must take it: with
// this code, and with all of these texts.
type badRow struct {
	name string
	do   func(w *badWorld) answer
	code string
	text []string
}

// TestBadInput gives a running product, one row at a time, what it must not
// take. After every row the version that the device had answers as before.
func TestBadInput(t *testing.T) {
	w := newBadWorld(t)
	// A transfer whose only chunk arrives damaged, again and again, while the
	// rows run: see badChunks.
	chunks := protocol.ChunkTopic(badFleet, w.hashes["big"], 0)
	w.wire.onPublish(func(topic string, payload []byte) {
		if topic == chunks {
			payload[len(payload)/2] ^= 1
		}
	})
	w.must("rollout", "start", "big:v1", "--to", badDevice)
	w.stillAnswers(t)

	for _, row := range slices.Concat(badData(), badSources(), badTraining(), badArtifacts(), badWants(), badRequests(), badNames(), badRollouts(), badChunks(), badPlaces()) {
		t.Run(row.name, func(t *testing.T) {
			defer func(outer *testing.T) { w.t = outer }(w.t)
			w.t = t
			got := row.do(w)
			if got.code != row.code {
				t.Errorf("code %q, want %q; the text is\n%s", got.code, row.code, got.text)
			}
			for _, text := range row.text {
				if !strings.Contains(got.text, text) {
					t.Errorf("the text lacks %q:\n%s", text, got.text)
				}
			}
			w.stillAnswers(t)
		})
	}

	// What every bad version was made from is taken: each was refused for what
	// its row says is wrong.
	if got := w.install(w.pack(w.good)); got.code != "installed" {
		t.Errorf("the version without a fault: %v", got)
	}
	w.confirmed(3)
	w.importFile(badModel+":v3", w.pack(w.good))
}

// badData are CSV files, each given to `sandpiper train` (item names are those
// of its columns: unit, cycle, heat, hum, fixed).
func badData() []badRow {
	train := func(csv string, flags ...string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			file := w.write("bad.csv", []byte(csv))
			a := w.cli(append([]string{"train", "fresh", "--data", file, "--task", "rul", "--group", "unit", "--time", "cycle",
				"--window", "5", "--units", "4", "--epochs", "1", "--features=heat,hum"}, flags...)...)
			if listed := w.cli("model", "show", "fresh"); listed.code != "exit 3" {
				w.t.Errorf("a version was added: %v", listed)
			}
			return a
		}
	}
	edit := func(line int, from, to string) string {
		lines := strings.Split(engines(), "\n")
		lines[line-1] = strings.Replace(lines[line-1], from, to, 1)
		return strings.Join(lines, "\n")
	}
	head, _, _ := strings.Cut(engines(), "\n")
	var short strings.Builder // groups of 4 rows
	for i, line := range strings.SplitAfter(engines(), "\n") {
		if i == 0 || (i-1)%20 < 4 {
			short.WriteString(line)
		}
	}
	return []badRow{
		{"csv/cell is no number", train(edit(5, ".", "x")), "exit 1", []string{`row 4 (line 5), column "heat": malformed CSV: "20x`, "is not a number; correct it, or leave the cell empty"}},
		{"csv/row is short", train(edit(7, ",7", "")), "exit 1", []string{`row 6 (line 7), column "fixed"`, "4 fields, the header has 5", "complete or remove the row"}},
		{"csv/row is long", train(edit(7, ",7", ",7,8")), "exit 1", []string{"row 6 (line 7): malformed CSV: 6 fields, the header has 5", "complete or remove the row"}},
		{"csv/quote does not close", train(edit(3, ",7", `,"7`)), "exit 1", []string{"row 2 (line 3)", "a quote is not closed on its line; close it"}},
		{"csv/infinite", train(edit(4, "20.", "1e99999")), "exit 1", []string{`row 3 (line 4), column "heat"`, "not a finite float32", "leave the cell empty"}},
		{"csv/missing column", train(engines(), "--features=humm"), "exit 1", []string{`no such column: "humm"`, `did you mean "hum"?`}},
		{"csv/column named twice", train(edit(1, "hum", "heat")), "exit 1", []string{`header (line 1), column "heat"`, "rename one"}},
		{"csv/no header", train("1,1,20.5,1,7\n1,2,21,0,7\n"), "exit 1", []string{"header (line 1)", "the first line must name the columns"}},
		{"csv/time goes back", train(edit(9, "1,8,", "1,2,")), "exit 1", []string{`row 8 (line 9), column "cycle": time is not ascending`, "sort the rows"}},
		{"csv/too few rows", train(short.String()), "exit 1", []string{"too few rows", "a window of 5 rows", "the longest has 4", "give more rows"}},
		{"csv/NaN target", forecast("NaN"), "exit 1", []string{`row 20 (line 21), column "temp": unusable target`, `"NaN"`, "fill it in or remove the row"}},
		{"csv/empty target", forecast(""), "exit 1", []string{`row 20 (line 21), column "temp": unusable target`, "fill it in or remove the row"}},
		{"csv/constant column", func(w *badWorld) answer {
			return w.cli("train", "flat", "--data", w.path("engines.csv"), "--task", "rul", "--group", "unit", "--time", "cycle",
				"--features", "heat,fixed", "--window", "5", "--units", "4", "--epochs", "1")
		}, "exit 0", []string{`column "fixed" is constant`, "scales to 0"}},
		{"csv/a group in two parts", func(w *badWorld) answer {
			return train(engines(), "--test", w.write("held.csv", []byte(short.String())))(w)
		}, "exit 1", []string{`held.csv: row 1 (line 2), column "unit": leakage: group "1" is in the training file and in the test file`, "same_names"}},
		{"csv/empty file", train(""), "exit 1", []string{"no data: the file is empty", "its first line must name the columns"}},
		{"csv/header alone", train(head + "\n"), "exit 1", []string{"no data: a header and no rows; add rows below it"}},
		{"csv/single row", train(head + "\n1,1,20.5,1,7\n"), "exit 1", []string{"impossible split: 1 of 1 groups for validation leaves none for training", "hold out none (validation -1)"}},
		{"csv/single row of a forecast", func(w *badWorld) answer {
			return w.cli("train", "fresh", "--data", w.write("bad.csv", []byte("time,temp\n1,20\n")), "--task", "forecast", "--time", "time", "--target", "temp")
		}, "exit 1", []string{"too few rows: a window of 96 rows and 24 to predict needs 120", "give more rows or a smaller window"}},
		{"csv/no such weight", train(engines(), "--weight", "humm"), "exit 1", []string{`weight: no such column: "humm"`, `did you mean "hum"?`}},
		{"csv/negative weight", train(engines(), "--weight", "hum"), "exit 1", []string{`row 4 (line 5), column "hum": unusable weight: "-0.757"`, "write a number of 0 or more"}},
		{"csv/weights of 0", train(strings.ReplaceAll(engines(), ",7\n", ",0\n"), "--weight", "fixed"), "exit 1",
			[]string{`column "fixed": unusable weight: it is 0 in the last row of every training window`}},
		{"csv/gzip of nothing we know", train("\x1f\x8b\x08\x00garbage"), "exit 1", []string{"malformed CSV"}},
		{"csv/gzip cut short", train(zipped(engines())[:400]), "exit 1", []string{"malformed CSV: the compressed file is cut short or damaged"}},
		{"csv/a spreadsheet", train("PK\x03\x04 and more"), "exit 1", []string{"a ZIP archive or a spreadsheet", "give CSV in UTF-8"}},
		{"csv/one endless line", train(strings.Repeat("x", 1<<21)), "exit 1", []string{"longer than 1048576 bytes", "is this a CSV file?"}},
	}
}

// badTraining are runs that train, and whose model is not to be had.
func badTraining() []badRow {
	// wave.csv has no noise, so a network learns it to less than what
	// int8 rounds off.
	fresh := func(flags ...string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			a := w.cli(append([]string{"train", "fresh", "--data", w.path("wave.csv"), "--task", "forecast", "--time", "time", "--target", "temp",
				"--window", "12", "--horizon", "1", "--units", "8", "--epochs", "20", "--batch", "16", "--lr", "0.01", "--seed", "4"}, flags...)...)
			if listed := w.cli("model", "show", "fresh"); listed.code != "exit 3" {
				w.t.Errorf("a version was added: %v", listed)
			}
			return a
		}
	}
	return []badRow{
		{"train/all targets equal", func(w *badWorld) answer {
			return w.cli("train", "flat", "--data", w.write("equal.csv", []byte(equal())), "--task", "forecast", "--time", "time", "--target", "temp",
				"--window", "12", "--horizon", "1", "--units", "4", "--epochs", "1")
		}, "exit 0", []string{`target "temp" is constant in the training rows: there is nothing to learn`}},
		{"train/batch larger than the data", func(w *badWorld) answer {
			return w.cli("train", "flat", "--data", w.path("wave.csv"), "--task", "forecast", "--time", "time", "--target", "temp",
				"--window", "12", "--horizon", "1", "--units", "4", "--epochs", "1", "--batch", "1000000000000")
		}, "exit 0", []string{"warning: flat does not beat the linear map"}}, // of one update
		// Each update takes 2·5 times every weight from it.
		{"train/exploding loss", fresh("--optimizer", "sgd", "--lr", "1", "--l2", "5", "--global-clipnorm", "-1"), "exit 1",
			[]string{"training: epoch 1 batch", "loss is NaN (layer 0 kernel value 0 is NaN", "try a smaller learning rate or clipnorm"}},
		{"train/no task", fresh("--task", "rull"), "exit 2", []string{`no task "rull"; did you mean "rul"?`}},
		{"train/no layer", fresh("--layer", "ltsm"), "exit 2", []string{`no layer "ltsm"; did you mean "lstm"?`}},
		{"train/no optimizer", fresh("--optimizer", "adma"), "exit 2", []string{`no optimizer "adma"; did you mean "adam"?`}},
		{"train/no loss", fresh("--loss", "hubber"), "exit 2", []string{`no loss "hubber"; did you mean "huber"?`}},
		{"train/loss of classes", fresh("--loss", "binary_crossentropy"), "exit 2", []string{"of classes, and the task forecast predicts numbers; use mse, mae or huber"}},
		{"train/no schedule", fresh("--schedule", "steps"), "exit 2", []string{`no schedule "steps"; did you mean "step"?`}},
		{"train/setting of another optimizer", fresh("--momentum", "0.9"), "exit 2", []string{"momentum needs optimizer sgd or rmsprop, not adam"}},
		{"train/setting out of range", fresh("--beta2", "1"), "exit 2", []string{"beta2 1: want 0 or more, below 1"}},
		{"train/no such flag", fresh("--clip-norm", "1"), "exit 2", []string{"unknown flag: --clip-norm; did you mean --clipnorm?"}},
		{"train/int8 is worse than allowed", fresh("--int8-bound", "0"), "exit 8",
			[]string{"fresh:v1 is not added: int8 costs too much: mse_scaled", "allow more with --int8-bound, or add it as it is with --force"}},
		// The run of the row above is one that can go on.
		{"run/resumed with other data", func(w *badWorld) answer {
			other := w.write("other.csv", append(w.read("wave.csv"), "1200,21\n"...))
			return w.cli("run", "resume", w.failedRun(), "--data", other)
		}, "exit 1", []string{"the data is another: its SHA-256 is ", "and that of the data it began with ", "give the same file"}},
		{"run/resumed with options of another", func(w *badWorld) answer {
			id := w.failedRun()
			file := filepath.Join(w.dir, "runs", id, "run.json")
			record, err := os.ReadFile(file)
			w.check(err)
			w.check(os.WriteFile(file, bytes.Replace(record, []byte(`"learning_rate": 0.01,`), []byte(`"learning_rate": 0.02,`), 1), 0o600))
			defer func() { w.check(os.WriteFile(file, record, 0o600)) }()
			return w.cli("run", "resume", id, "--data", w.path("wave.csv"))
		}, "exit 1", []string{"checkpoint of another run: LearningRate is 0.02 and was 0.01", "resume with what it began with, or train from the start"}},
		{"run/unknown", func(w *badWorld) answer {
			return w.cli("run", "resume", strings.Replace(w.failedRun(), "fresh", "fersh", 1), "--data", w.path("wave.csv"))
		}, "exit 3", []string{`run "fersh-`, "not found", `did you mean "fresh-`}},
		{"run/is not under way", func(w *badWorld) answer { return w.cli("run", "stop", w.failedRun()) },
			"exit 1", []string{"run fresh-", "is failed: there is nothing to stop"}},
	}
}

// equal is a data set whose target never changes.
func equal() string {
	var b strings.Builder
	b.WriteString("time,temp,load\n")
	for i := range 120 {
		fmt.Fprintf(&b, "%d,20,%d\n", i, i%7)
	}
	return b.String()
}

// read reads a file of the world.
func (w *badWorld) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	w.check(err)
	return b
}

// failedRun is the ID of the newest run that failed.
func (w *badWorld) failedRun() string {
	w.t.Helper()
	var all []runs.Run
	w.check(json.Unmarshal([]byte(w.must("run", "ls", "-o", "json")), &all))
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].State == runs.Failed {
			return all[i].ID
		}
	}
	w.t.Fatal("no run has failed")
	return ""
}

// forecast trains on temperatures, one of which is cell.
func forecast(cell string) func(*badWorld) answer {
	return func(w *badWorld) answer {
		lines := strings.Split(string(w.read("room.csv")), "\n")
		f := strings.Split(lines[20], ",")
		lines[20] = f[0] + "," + cell + "," + f[2]
		return w.cli("train", "fresh", "--data", w.write("bad.csv", []byte(strings.Join(lines, "\n"))), "--task", "forecast",
			"--time", "time", "--target", "temp", "--window", "12", "--horizon", "3", "--units", "4", "--epochs", "1")
	}
}

// engines is a small data set without a fault: a line for each cycle of two
// machines, unit,cycle,heat,hum,fixed.
func engines() string {
	var b strings.Builder
	b.WriteString("unit,cycle,heat,hum,fixed\n")
	for unit := 1; unit <= 4; unit++ {
		for cycle := 1; cycle <= 20; cycle++ {
			fmt.Fprintf(&b, "%d,%d,%.3f,%.3f,7\n", unit, cycle, 20+float64(cycle*cycle)/80, math.Sin(float64(cycle*unit)))
		}
	}
	return b.String()
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s)) // to memory
	_ = z.Close()
	return b.String()
}

// badArtifacts are model files: each goes to `sandpiper model import`, where
// the control plane is to refuse it, and to the agent's socket.
func badArtifacts() []badRow {
	const noRow = "" // what the control plane does with it is not looked at
	refused := "422 refused true"
	const exportAgain = "export it again with `sandpiper model export`"
	all := []struct {
		name     string
		file     func(w *badWorld) []byte
		exit     string // of model import
		imported []string
		installs []string
	}{
		{"corrupt", damaged(func(b []byte) []byte { b[len(b)-1] ^= 4; return b }), "exit 1",
			[]string{"import: model file: chunk 0: corrupt: SHA-256 does not match", exportAgain}, []string{"install: model file: chunk 0: corrupt", "fetch it again"}},
		{"corrupt signature", damaged(func(b []byte) []byte { b[20+releaseLen(b)-1] ^= 4; return b }), "exit 8",
			[]string{"signed by a wrong key"}, []string{"signed by a wrong key", "sign it with that role's key"}},
		{"no model file", damaged(func([]byte) []byte { return []byte(engines()) }), "exit 1",
			[]string{"model file: corrupt: it begins with", "give a file of `sandpiper model export`"},
			[]string{"model file: corrupt: it begins with", "give a file of `sandpiper model export`"}},
		{"empty", damaged(func([]byte) []byte { return nil }), "exit 1",
			[]string{"import: model file: truncated: it ends in the header", exportAgain}, []string{"truncated: it ends in the header", exportAgain}},
		{"truncated", damaged(func(b []byte) []byte { return b[:len(b)-7] }), "exit 1",
			[]string{"truncated: it ends in the payload", exportAgain}, []string{"truncated: it ends in the payload", exportAgain}},
		{"with more behind it", damaged(func(b []byte) []byte { return append(b, 0) }), "exit 1",
			[]string{"corrupt: there are bytes behind the payload", exportAgain}, []string{"corrupt: there are bytes behind the payload", exportAgain}},
		{"oversized", damaged(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[16:], protocol.MaxTransfer+1); return b }), "exit 1",
			[]string{"too large: payload of 67108865 bytes, want 1 to 67108864", exportAgain},
			[]string{"too large: payload of 67108865 bytes, want 1 to 67108864", exportAgain}},
		{"larger than its release allows", changed(func(v *badVersion) { v.release.MaxTransfer-- }), "exit 1",
			[]string{"too large", "the release of pump:v3 allows", "export the version that was released"},
			[]string{"too large", "the release of pump:v3 allows", "export the version that was released"}},
		{"unsigned", changed(func(v *badVersion) { v.signer = nil }), "exit 8",
			[]string{"unsigned: this release has no signature", "sign it with a key of the role release"},
			[]string{"unsigned: this release has no signature", "sign it with a key of the role release"}},
		{"wrong key", func(w *badWorld) []byte {
			v := w.good
			v.signer = w.keys[artifact.RoleRollout]
			return w.pack(v)
		}, "exit 8",
			[]string{"signed by a wrong key", "by a key of the role release", "sign it with that role's key"},
			[]string{"signed by a wrong key", "by a key of the role release", "sign it with that role's key"}},
		{"downgraded", func(w *badWorld) []byte { return w.old }, noRow,
			nil, []string{"below the security floor: pump:v1 is below v2", "release a newer version"}},
		{"expired", changed(func(v *badVersion) { v.release.NotAfter = 1 }), noRow,
			nil, []string{"expired: pump:v3 may be activated until 1", "release it again"}},
		{"foreign", changed(func(v *badVersion) { v.release.Fleet = "north" }), "exit 8",
			[]string{`of another fleet: pump:v3 was released for "north", this is "default"`, "release it for this fleet"},
			[]string{`of another fleet: pump:v3 was released for "north", this is "default"`, "release it for this fleet"}},
		{"bomb", changed(func(v *badVersion) { explode(&v.transfer) }), "exit 1",
			[]string{"decode pump:v3: manifest: zstd: too large: a block decodes to more than the", "get the model again from whoever released it"},
			[]string{"decode pump:v3: manifest: zstd: too large: a block decodes to more than the", "get the model again from whoever released it"}},
		{"other model under the signed digest", func(w *badWorld) []byte {
			v, other := w.good, w.version(badModel, 4, w.trained(4))
			digest := v.transfer.Digest
			v.transfer = other.transfer
			v.transfer.Digest = digest
			v.release.MaxTransfer, v.release.MaxDecoded = protocol.MaxTransfer, artifact.MaxDecoded
			return w.pack(v)
		}, "exit 8",
			[]string{"digest does not match: the transfer of pump:v3 decodes to", "packed from another model, export the version that was released"},
			[]string{"digest does not match: the transfer of pump:v3 decodes to", "packed from another model, export the version that was released"}},
		{"other model than signed", func(w *badWorld) []byte {
			v, other := w.good, w.version(badModel, 4, w.trained(4))
			v.transfer = other.transfer
			v.release.MaxTransfer = protocol.MaxTransfer // not refused for its size
			return w.pack(v)
		}, "exit 8", []string{"digest does not match", "the release of pump:v3 signs", "export the version that was released"},
			[]string{"digest does not match", "the release of pump:v3 signs", "export the version that was released"}},
		{"golden vector that does not reproduce", func(w *badWorld) []byte {
			m := w.trained(3)
			m.Golden.Outputs[1] = math.Nextafter32(m.Golden.Outputs[1], 0)
			return w.pack(w.version(badModel, 3, m))
		}, "exit 8", []string{"pump:v3: golden vector 1 output 0: want", "train it again, or export it again from where it was made"},
			[]string{"golden vector 1 output 0: want"}},
		{"name outside the alphabet", func(w *badWorld) []byte {
			payload := bytes.Replace(w.encode(w.good.release), []byte("\x64pump"), []byte("\x64Pump"), 1) // CBOR text of 4 bytes
			var b bytes.Buffer
			w.check(artifact.WriteFile(&b, w.sign(artifact.TypeRelease, payload, w.good.signer), &w.good.transfer))
			return b.Bytes()
		}, "exit 2", []string{`the id "Pump" has 'P' at position 1`, "topics allow only a-z"},
			[]string{`the id "Pump" has 'P' at position 1`, "topics allow only a-z"}},
		{"other kernel ABI", changed(func(v *badVersion) { v.release.ABI = 2 }), "exit 8",
			[]string{"needs another kernel: pump:v3 needs ABI 2, this one is 1", "update the software here, or release the model again"},
			[]string{"needs another kernel: pump:v3 needs ABI 2, this one is 1", "update the software here, or release the model again"}},
	}
	var rows []badRow
	for _, r := range all {
		if r.exit != noRow {
			rows = append(rows, badRow{"artifact/" + r.name + "/import", func(w *badWorld) answer {
				a := w.cli("model", "import", w.write("bad.model", r.file(w)))
				if listed := w.cli("model", "show", "pump:v3"); listed.code != "exit 3" {
					w.t.Errorf("it was added: %v", listed)
				}
				return a
			}, r.exit, r.imported})
		}
		rows = append(rows, badRow{"artifact/" + r.name + "/install", func(w *badWorld) answer { return w.install(r.file(w)) }, refused, r.installs})
	}
	return append(rows,
		// What only the broker can bring.
		badRow{"artifact/downgraded/rollout", func(w *badWorld) answer {
			a := w.rolledOut("pump:v1")
			w.must("rollout", "start", "pump:v2", "--to", badDevice)
			return a
		}, "downgrade", []string{"pump:v1 is below v2, which this device confirmed as its lowest"}},
		badRow{"artifact/larger than the cache/rollout", func(w *badWorld) answer { return w.rolledOut("huge:v1") },
			"too_large", []string{"too large: transfer of", "the model cache holds 1048576"}},
		badRow{"artifact/larger than the cache/install", func(w *badWorld) answer { return w.install(w.versions["huge"]) },
			"507 refused false", []string{"install huge:v1", "model cache quota reached"}},
	)
}

// damaged changes the bytes of a good file.
func damaged(f func([]byte) []byte) func(*badWorld) []byte {
	return func(w *badWorld) []byte { return f(w.pack(w.good)) }
}

// changed changes a good version before it is signed and packed.
func changed(f func(*badVersion)) func(*badWorld) []byte {
	return func(w *badWorld) []byte {
		v := w.good
		f(&v)
		return w.pack(v)
	}
}

// releaseLen is the length of the release in a model file.
func releaseLen(file []byte) int { return int(binary.LittleEndian.Uint32(file[8:])) }

// explode makes the manifest of t a zstd frame (RFC 8878 §3.1.1) of 100 blocks
// that each repeat a zero 128 KiB times: 400 bytes that stream 12.5 MiB.
func explode(t *artifact.Transfer) {
	const blocks = 100
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x38} // magic number, window of 128 KiB
	for i := range blocks {
		h := uint32(1<<1 | (128<<10)<<3)
		if i == blocks-1 {
			h |= 1
		}
		frame = append(frame, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	n, head := binary.Uvarint(t.Payload)
	payload := append(bytes.Clone(t.Payload[:head]), binary.AppendUvarint(nil, uint64(len(frame)))...)
	payload = append(payload, frame...)
	payload = append(payload, make([]byte, max(0, int(n)-len(payload)))...)
	t.Payload, t.Size = payload, uint32(len(payload))
	t.Codecs = slices.Clone(t.Codecs)
	t.Codecs[0] = artifact.Zstd
	t.Chunks = [][32]byte{sha256.Sum256(payload)}
}

// badChunks is what became of the transfer that TestBadInput damages. The
// device has asked for its chunk three times by then.
func badChunks() []badRow {
	return []badRow{{"artifact/chunk with other bytes/rollout", func(w *badWorld) answer {
		defer w.wire.onPublish(nil)
		return w.failed("big:v1")
	}, "corrupt", []string{"chunk 0: corrupt: SHA-256 does not match the descriptor", "fetch it again"}}}
}

// badWants are desired states that come from no control plane, or from one of
// the past. The device says what it thinks of them in its log.
func badWants() []badRow {
	topic := protocol.WantTopic(badFleet, badDevice)
	return []badRow{
		{"want/forged", func(w *badWorld) answer {
			return w.injectWant(w.sign(artifact.TypeWant, w.encode(w.wanted()), w.keys[artifact.RoleRelease]))
		}, "logged", []string{"signed by a wrong key", "by a key of the role rollout"}},
		{"want/unsigned", func(w *badWorld) answer {
			return w.injectWant(w.sign(artifact.TypeWant, w.encode(w.wanted()), nil))
		}, "logged", []string{"unsigned: this want has no signature", "sign it with a key of the role rollout"}},
		{"want/release in its place", func(w *badWorld) answer {
			return w.injectWant(w.sign(artifact.TypeRelease, w.encode(w.good.release), w.keys[artifact.RoleRelease]))
		}, "logged", []string{"signed by a wrong key"}},
		{"want/of another device", func(w *badWorld) answer {
			want := w.wanted()
			want.Device = "pump-2"
			return w.injectWant(w.sign(artifact.TypeWant, w.encode(want), w.keys[artifact.RoleRollout]))
		}, "logged", []string{"want is for another device"}},
		{"want/garbage", func(w *badWorld) answer { return w.injectWant([]byte("active: pump:v3")) },
			"logged", []string{"corrupt"}},
		{"want/stale", func(w *badWorld) answer {
			before := w.device.Status()
			want := w.wanted()
			want.Rev = before.Rev // as old as the last one
			w.check(w.wire.inject(topic, w.sign(artifact.TypeWant, w.encode(want), w.keys[artifact.RoleRollout])))
			want.Rev = 0
			w.check(w.wire.inject(topic, w.sign(artifact.TypeWant, w.encode(want), w.keys[artifact.RoleRollout])))
			w.injectWant([]byte("an end that is heard")) // wants are taken in order
			s := w.device.Status()
			return answer{fmt.Sprintf("%d.%d", int64(s.Epoch-before.Epoch), int64(s.Rev-before.Rev)), s.Models[badModel].Phase}
		}, "0.0", []string{protocol.PhaseIdle}},
	}
}

// badRequests are requests for predictions, over MQTT and over agent.sock.
func badRequests() []badRow {
	packed := func(v ...float32) []byte { // CBOR {"x": bytes, "shape": [5, 2]}
		b := append([]byte{0xa2, 0x61, 'x', 0x58, byte(4 * len(v))}, make([]byte, 0, 64)...)
		for _, f := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
		return append(append(append(b, 0x65), "shape"...), 0x82, 5, 2)
	}
	withNaN := slices.Clone(badRows)
	withNaN[3] = float32(math.NaN())
	// One row more than any window has, in the fewest bytes: CBOR [0, 0].
	const rowsTooMany = protocol.MaxWindowValues/2 + 1
	long := append([]byte{0x99, rowsTooMany >> 8, rowsTooMany & 0xff}, bytes.Repeat([]byte{0x82, 0, 0}, rowsTooMany)...)
	all := []struct {
		name    string
		model   string
		request []byte
		code    string
		text    []string
	}{
		{"malformed JSON", badModel, []byte(`[[20,0.5],[20.5`), protocol.CodeBadRequest, []string{"at byte 15", "want rows of numbers, [[1.5,20]"}},
		{"text behind JSON", badModel, []byte(badRequest + " x"), protocol.CodeBadRequest, []string{"bytes behind the value", "want rows of numbers"}},
		{"malformed CBOR", badModel, packed(badRows...)[:20], protocol.CodeBadRequest, []string{"neither JSON nor CBOR at byte 20: CBOR ends early", "want rows of numbers, [[1.5,20]"}},
		{"CBOR that is no request", badModel, []byte("\xa1\x61x\x61y"), protocol.CodeBadRequest, []string{"not a request at byte 3", "want rows of numbers, [[1.5,20]"}},
		{"neither JSON nor CBOR", badModel, []byte("20 0.5"), protocol.CodeBadRequest, []string{"the request is neither JSON nor CBOR", "want rows of numbers", `got "20 0.5"`}},
		{"empty", badModel, nil, protocol.CodeBadRequest, []string{"the request is empty; mosquitto_rr 2.0.11 sends nothing with -f or -s, use -m", "want rows of numbers"}},
		{"no rows", badModel, []byte(`{"dl":5}`), protocol.CodeBadRequest, []string{"the field x is missing, want rows"}},
		{"unknown field", badModel, []byte(`{"x":` + badRequest + `,"deadline":5}`), protocol.CodeBadRequest, []string{`unknown field, want x, dl, s or t, got "deadline"`}},
		{"too few rows", badModel, []byte(`[[20,0.5],[21,0.5]]`), protocol.CodeBadShape, []string{"wrong number of rows, want 5×2, got 2×2"}},
		{"too few values", badModel, []byte(`[[20,0.5],[21],[22,0],[23,0],[24,0]]`), protocol.CodeBadShape, []string{"row 2 has the wrong length, want 2 values, got 1 value"}},
		{"unknown feature", badModel, []byte(`[{"heat":1,"humm":2}]`), protocol.CodeBadShape, []string{"row 1 has a feature the model does not know, want [heat hum]", `got "humm"`}},
		{"missing feature", badModel, []byte(`[{"heat":1}]`), protocol.CodeBadShape, []string{`row 1 lacks a feature, want "hum"`}},
		{"packed of another shape", badModel, packed(badRows[:8]...), protocol.CodeBadRequest, []string{"packed x does not have its shape, want 40 bytes, got 32 bytes"}},
		{"infinite in JSON", badModel, []byte(strings.Replace(badRequest, "21,", "1e999,", 1)), protocol.CodeBadRequest, nil},
		{"NaN in JSON", badModel, []byte(strings.Replace(badRequest, "21,", "NaN,", 1)), protocol.CodeBadRequest, nil},
		{"NaN in CBOR", badModel, packed(withNaN...), protocol.CodeBadRequest, []string{"a value is not finite, got row 2, column 2"}},
		{"beyond what the scaler takes", badModel, []byte(strings.Replace(badRequest, "21,", "1e30,", 1)), protocol.CodeBadRequest, []string{"row 3, feature 1 is 1e+30"}},
		{"unknown model", "pumps", []byte(badRequest), protocol.CodeNoModel, []string{"this device has no such model, got pumps"}},
		{"more values than a window has", badModel, long, protocol.CodeBadRequest, []string{"the window is too large, want at most 65536 values"}},
	}
	var rows []badRow
	for _, r := range all {
		rows = append(rows,
			badRow{"request/" + r.name + "/mqtt", func(w *badWorld) answer { return w.mqtt(r.model, r.request) }, r.code, r.text},
			badRow{"request/" + r.name + "/socket", func(w *badWorld) answer { return w.local(r.model, r.request) }, r.code, r.text})
	}
	cli := func(model, window string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			return w.cli("predict", badDevice, model, "--window", w.write("window.json", []byte(window)))
		}
	}
	tooLong := bytes.Repeat([]byte(" "), protocol.MaxPayload+1)
	return append(rows,
		badRow{"request/oversized/socket", func(w *badWorld) answer { return w.local(badModel, tooLong) },
			protocol.CodeBadRequest, []string{"request is too large", "at most 131072 bytes"}},
		// MQTT 3.1.1 has no other way to refuse a PUBLISH than to hang up.
		badRow{"request/oversized/mqtt", hangsUp(tooLong), "disconnected", nil},
		badRow{"request/oversized packet/mqtt", hangsUp(make([]byte, protocol.MaxPacket)), "disconnected", nil},
		badRow{"request/oversized/mqtt 5", func(w *badWorld) answer {
			c, err := w.tryConnect(5, "u."+badUser, w.token) // takes the place of w.user
			w.check(err)
			defer c.Conn.Close()
			defer w.connect()
			_, err = c.Publish(protocol.PredictTopic(badFleet, badDevice, badModel, badUser, "big"), tooLong, 1, false)
			w.check(err)
			p, err := c.Until(brokertest.PUBACK)
			w.check(err)
			return answer{fmt.Sprintf("PUBACK %#x", p.Codes), ""}
		}, "PUBACK 0x95", nil}, // packet too large, MQTT 5 §3.4.2.1
		badRow{"request/queue full/mqtt", func(w *badWorld) answer { _, a := w.jammed(0); return a },
			protocol.CodeBusy, []string{"the request queue is full, want at most 1 waiting", "retry in 200 ms"}},
		badRow{"request/expired/mqtt", func(w *badWorld) answer { a, _ := w.jammed(1); return a },
			protocol.CodeExpired, []string{"the deadline passed while the request waited, want 1 ms"}},
		badRow{"request/wrong shape/cli", cli(badModel, "[[1,2]]"), "exit 1", []string{"bad_shape: wrong number of rows, want 5×2, got 1×2"}},
		badRow{"request/malformed/cli", cli(badModel, "[[1,2]"), "exit 1", []string{"the window is no JSON", "write rows of numbers"}},
		badRow{"request/empty/cli", cli(badModel, " \n"), "exit 1", []string{"window.json is empty", "write rows of numbers"}},
		badRow{"request/unknown model/cli", cli("pumps", badRequest), "exit 3", []string{"no_model: this device has no such model, got pumps"}},
		badRow{"request/oversized/cli", cli(badModel, string(tooLong)), "exit 1", []string{"window.json is larger than 131072 bytes"}},
	)
}

// hangsUp sends a request that ends the user's connection, and makes another.
func hangsUp(request []byte) func(*badWorld) answer {
	return func(w *badWorld) answer {
		// The broker may hang up before it has read all of it.
		_, _ = w.user.Publish(protocol.PredictTopic(badFleet, badDevice, badModel, badUser, "big"), request, 1, false)
		if p, err := w.user.Next(); err == nil {
			return answer{fmt.Sprintf("packet %d", p.Type), string(p.Payload)}
		}
		w.user.Conn.Close()
		w.connect()
		return answer{"disconnected", ""}
	}
}

// badNames are ids that no topic can hold.
func badNames() []badRow {
	alphabet := "topics allow only a-z, 0-9, _ and -"
	cli := func(args ...string) func(*badWorld) answer {
		return func(w *badWorld) answer {
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "WORK/", w.work+"/")
			}
			return w.cli(args...)
		}
	}
	return []badRow{
		{"id/device", cli("fleet", "add", "Pump/1", "--out", "WORK/x.toml"), "exit 2", []string{`the id "Pump/1" has 'P' at position 1`, alphabet}},
		{"id/device too long", cli("fleet", "add", strings.Repeat("p", 49), "--out", "WORK/x.toml"), "exit 2", []string{"has 49 bytes; use at most 48"}},
		{"id/device reserved", cli("fleet", "add", "all", "--out", "WORK/x.toml"), "exit 2", []string{"reserved id", "it names every device in a rollout's target; choose another"}},
		{"id/label", cli("fleet", "add", "pump-9", "--label", "si te=north", "--out", "WORK/x.toml"), "exit 2", []string{"invalid label", "si te"}},
		{"id/user", cli("user", "add", "bob#"), "exit 2", []string{`the id "bob#" has '#' at position 4`, alphabet}},
		{"id/user empty", cli("user", "add", ""), "exit 2", []string{"the id is empty", "use 1 to 48 characters"}},
		{"id/fleet", cli("init", "--fleet", "North", "--dir", "WORK/north"), "exit 2", []string{`the fleet "North" has 'N' at position 1`, alphabet}},
		{"id/model", cli("train", "wear+", "--data", "WORK/engines.csv", "--task", "rul"), "exit 2", []string{`"wear+" has '+' at position 5`, alphabet}},
		{"id/alias", cli("model", "tag", "pump:v1", "Best"), "exit 2", []string{"invalid alias"}},
		{"id/rollout target", cli("rollout", "start", "pump:v2", "--to", "pump-1,Pump 2"), "exit 2", []string{`the id "Pump 2" has 'P' at position 1`, alphabet}},
		{"id/predicted device", cli("predict", "pump/1", badModel, "--window", "WORK/request.json"), "exit 2", []string{"topics allow only"}},
	}
}

// badPlaces are brokers, folders, disks and files that are not as they should be.
func badPlaces() []badRow {
	return []badRow{
		{"broker/refuses a user", func(w *badWorld) answer {
			_, err := w.tryConnect(4, "u."+badUser, "not the token")
			return answer{"refused", fmt.Sprint(err)}
		}, "refused", []string{"CONNACK code"}},
		{"broker/refuses a user under another name", func(w *badWorld) answer {
			_, err := w.tryConnect(4, "u.alice", w.token)
			return answer{"refused", fmt.Sprint(err)}
		}, "refused", []string{"CONNACK code"}},
		{"broker/refuses a device", func(w *badWorld) answer { return w.stray(func(*agent.Config) {}) },
			"not connected", []string{"broker refused the credentials: user d.pump-1"}},
		{"broker/not there for a device", func(w *badWorld) answer {
			return w.stray(func(c *agent.Config) { c.Broker = "tcp://" + w.closedPort() })
		}, "not connected", []string{"connect: ", "connection refused"}},
		{"broker/gone from the device", func(w *badWorld) answer {
			w.wire.cut()
			w.until("the device to be missed", func() bool {
				d, err := w.client.Device(w.t.Context(), badDevice)
				return err == nil && !d.Online
			})
			a := w.cli("predict", badDevice, badModel, "--window", w.write("window.json", []byte(badRequest)))
			if got := w.local(badModel, []byte(badRequest)); got.text != fmt.Sprint(w.want) {
				w.t.Errorf("without a broker the device answers %v, want %v", got, w.want)
			}
			w.wire.mend()
			w.online()
			return a
		}, "exit 5", []string{"device is offline: last heard of at"}},
		{"broker/no server", func(w *badWorld) answer {
			return w.cli("rollout", "start", "pump", "--to", "all", "--dir", w.folder(w.t.TempDir(), ""))
		}, "exit 5", []string{"needs the broker, and no server is running; start one with `sandpiper serve`"}},
		{"server/not there", func(w *badWorld) answer {
			return w.cli("model", "ls", "--server", "http://"+w.closedPort(), "--token", "x")
		}, "exit 5", []string{"control plane unreachable: 127.0.0.1"}},
		{"server/refuses the token", func(w *badWorld) answer { return w.cli("model", "ls", "--server", w.http, "--token", "x") },
			"exit 4", []string{"the token is not one of this control plane", "`sandpiper init` wrote it"}},
		{"server/without a token", func(w *badWorld) answer { return w.cli("model", "ls", "--server", w.http) },
			"exit 4", []string{"this needs a token"}},
		{"folder/served already", func(w *badWorld) answer {
			return w.cli("serve", "--broker-listen", "127.0.0.1:0", "--http-listen", "", "--lock-wait", "1ms")
		}, "exit 1", []string{fmt.Sprintf("data folder is in use by process %d (waited 1ms)", os.Getpid()), "stop it"}},
		{"folder/in use by a command", func(w *badWorld) answer {
			dir := w.folder(w.t.TempDir(), "")
			cp, err := controlplane.Open(w.t.Context(), controlplane.Config{Dir: dir})
			w.check(err)
			defer cp.Close()
			return w.cli("model", "ls", "--dir", dir, "--lock-wait", "1ms")
		}, "exit 1", []string{fmt.Sprintf("data folder is in use by process %d (waited 1ms)", os.Getpid()), "stop it"}},
		{"folder/is none", func(w *badWorld) answer { return w.cli("model", "ls", "--dir", w.t.TempDir()) },
			"exit 3", []string{"not a data folder", "run `sandpiper init` or name another with --dir"}},
		{"folder/of a running agent", func(w *badWorld) answer {
			return w.stray(func(c *agent.Config) { c.DataDir = w.path("device") })
		}, "not started", []string{"model cache is in use by another process"}},
		{"disk/full", func(w *badWorld) answer {
			dir := w.folder(smallDisk(w.t, "2m"), "")
			w.serve(dir)
			w.fill(dir)
			a := w.cli("user", "add", "carol", "--dir", dir)
			w.check(os.Remove(filepath.Join(dir, "filler")))
			w.must("user", "add", "carol", "--dir", dir)
			return a
		}, "exit 1", []string{"store is full", "free some space on its disk"}},
		{"disk/full before it is opened", func(w *badWorld) answer {
			dir := w.folder(smallDisk(w.t, "2m"), "")
			w.fill(dir)
			a := w.cli("model", "ls", "--dir", dir)
			w.check(os.Remove(filepath.Join(dir, "filler")))
			w.must("user", "add", "carol", "--dir", dir)
			return a
		}, "exit 1", []string{"control.db: store is full", "free some space on its disk"}},
		{"disk/write-protected", func(w *badWorld) answer {
			disk := smallDisk(w.t, "2m")
			dir := w.folder(disk, "")
			writeProtect(w.t, disk)
			return w.cli("user", "add", "carol", "--dir", dir)
		}, "exit 1", []string{"read-only file system", "make it writable, or name a folder on another disk with --dir"}},
		{"disk/folder of somebody else", func(w *badWorld) answer {
			if os.Getuid() == 0 {
				w.t.Skip("root may write to every folder")
			}
			dir := w.folder(w.t.TempDir(), "")
			w.check(os.WriteFile(filepath.Join(dir, "lock"), nil, 0o400))
			return w.cli("user", "add", "carol", "--dir", dir)
		}, "exit 4", []string{"permission denied", "run this as the owner of the folder"}},
		{"disk/full under an export", func(w *badWorld) answer { return w.cli("model", "export", "pump:v1", fullDevice(w.t)) },
			"exit 1", []string{"no space left on device"}},
		{"config/unknown key of the control plane", func(w *badWorld) answer {
			return w.cli("model", "ls", "--dir", w.folder(w.t.TempDir(), "fleet = \"default\"\n[broker]\n  lisen = \"127.0.0.1:1883\"\n"))
		}, "exit 2", []string{`sandpiper.toml:3:3: unknown key "broker.lisen"; did you mean "broker.listen"?`}},
		{"config/unknown key of a device", func(w *badWorld) answer {
			b, err := os.ReadFile(w.path("agent.toml"))
			w.check(err)
			file := w.write("bad.toml", append([]byte("# device\n\nquota = 1\n"), b...))
			_, err = config.LoadAgent(file)
			return answer{fmt.Sprint("exit ", exitCode(err)), fmt.Sprint(err)}
		}, "exit 2", []string{"bad.toml:3:1: unknown key \"quota\"; the keys are fleet, device, "}},
		{"config/unknown section of a device", func(w *badWorld) answer {
			b, err := os.ReadFile(w.path("agent.toml"))
			w.check(err)
			file := w.write("bad.toml", append(b, "\n[limit]\nqueue_len = 1\n"...))
			_, err = config.LoadAgent(file)
			return answer{fmt.Sprint("exit ", exitCode(err)), fmt.Sprint(err)}
		}, "exit 2", []string{`:2: unknown key "limit"; the keys are fleet, device, `}},
		{"config/no TOML", func(w *badWorld) answer {
			return w.cli("model", "ls", "--dir", w.folder(w.t.TempDir(), "fleet default\n"))
		}, "exit 2", []string{"sandpiper.toml:1:7: "}},
	}
}

// closedPort is an address that nobody listens on.
func (w *badWorld) closedPort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.check(err)
	defer l.Close()
	return l.Addr().String()
}
