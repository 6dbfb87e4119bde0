package config

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// FuzzReadAsTheLibrary holds the reader to the library's own decoder: the same
// documents are taken, and lead to the same values.
func FuzzReadAsTheLibrary(f *testing.F) {
	for _, text := range []string{
		goodAgent,
		"fleet = 'a'\nlog_level = \"warn\"\nsimple = true\n[local]\nusers.ann = \"x\"\nplaintext = false\n[limits]\nquota_bytes = 0x1_0\ntrial = \"1m\"\n",
		"[local]\n[local.users]\nann = \"a\"\n\"b c\" = \"b\"\n",
		"local = {users = {ann = \"a\"}, listen = \"\"}\n",
		"limits.queue_len = +3\nlimits.daily_bytes = -1\n[limits]\n",
		"limits.queue_len = 1.0\n", "limits.queue_len = 9223372036854775807\n", "limits.quota_bytes = 9223372036854775808\n",
		"root = \"!\"\n", "root = [1]\n", "simple = \"true\"\n", "device = 1979-05-27\n",
		"period = \"1s\"\n[alarm]\noutput = 1\nraise = 80\nclear = -1_0.5e1\n[[input]]\ncolumn = \"a\"\n[[input]]\ntopic = \"b\"\n",
		"input = [{column = \"a\"}, {topic = \"b\"}]\n[[input]]\n", "input = [1]\n", "input = []\nstride = 4294967296\n", "stride = -1\n",
		"period = 0\n", "[input]\n", "[alarm]\nraise = nan\nclear = inf\n[alarm.x]\n", "[[alarm]]\n", "alarm = {raise = 1e39}\n", "alarm = 3\n", "alarm.raise = 1\n[alarm]\n",
		"[[input]]\n[input.x]\n", "[input.x]\n[[input]]\n", "[a.b]\n[a]\n", "[a.b]\n[a]\nb.c = 1\n", "[a]\nb.c = 1\n[a.b.d]\n", "x", "[", "a = [", "a = \"\x00\"",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		type all struct { // of both kinds of files
			Agent
			pipelineFile
			Any struct {
				B struct {
					C int `toml:"c"`
				} `toml:"b"`
				F float64 `toml:"f"`
				I int8    `toml:"i"`
				U uint8   `toml:"u"`
			} `toml:"a"`
		}
		for _, v := range []any{new(Agent), new(pipelineFile), new(all)} {
			want := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			wantErr := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(want)
			r := &reader{file: "x", root: reflect.ValueOf(v).Elem(), keys: map[string]definition{}}
			err := errors.Join(r.read(b), errors.Join(r.unknown...))
			if err != nil && wantErr == nil && slices.ContainsFunc([]string{"unknown key", "Array where text", "Integer where text", "a table where"}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
				continue // the library takes keys in any case, an array of numbers for bytes, a number for a duration, and one table for an array of them
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q into %T: %v, the library says %v", b, v, err, wantErr)
			}
			opts := cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateNaNs(), cmp.Exporter(func(reflect.Type) bool { return true })}
			if diff := cmp.Diff(want, v, opts); err == nil && diff != "" {
				t.Fatalf("%q (-library +ours):\n%s", b, diff)
			}
		}
	})
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ in, want string }{
		{`start = "2026-12-01T01:00:00Z"`, ""},
		{`start = 2026-12-01T01:00:00Z`, ""},
		{`start = 2026-12-01T02:00:00+01:00`, ""},
		{`start = "tomorrow"`, `x:1:9: "tomorrow" is no time; write it as 2026-12-01T01:00:00Z`},
		{`start = 2026-12-01`, `x:1:9: start: LocalDate where a time is expected; write it as 2026-12-01T01:00:00Z`},
		{`start = 7`, `x:1:9: start: Integer where a time is expected; write it as 2026-12-01T01:00:00Z`},
	} {
		var v struct {
			Start time.Time `toml:"start"`
		}
		r := &reader{file: "x", root: reflect.ValueOf(&v).Elem(), keys: map[string]definition{}}
		switch err := r.read([]byte(tt.in)); {
		case tt.want == "" && (err != nil || !v.Start.Equal(at)):
			t.Errorf("%s is %s, %v", tt.in, v.Start, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%s: %v, want %s", tt.in, err, tt.want)
		}
	}
}
