package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodAgent = `fleet = "default"
device = "pump1"
broker = "tcp://127.0.0.1:1883"
token = "secret-token"
data_dir = "cache"
root = "aGVsbG8="
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAgentTakesDataDirFromItsOwnFolder(t *testing.T) {
	path := write(t, "agent.toml", goodAgent)
	a, err := LoadAgent(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "cache"); a.DataDir != want {
		t.Errorf("DataDir = %q, want %q", a.DataDir, want)
	}
	if a.Username != "d.pump1" {
		t.Errorf("Username = %q, want d.pump1", a.Username)
	}
}

func TestServerFileThatIsMissingOrEmptyMeansDefaults(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "sandpiper.toml"), write(t, "sandpiper.toml", "")} {
		got, err := LoadServer(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(DefaultServer(), got); diff != "" {
			t.Errorf("LoadServer(%s) differs from the defaults:\n%s", path, diff)
		}
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	loadServer := func(path string) error { _, err := LoadServer(path); return err }
	loadAgent := func(path string) error { _, err := LoadAgent(path); return err }
	edit := func(old, new string) string { return strings.Replace(goodAgent, old, new, 1) }
	tests := []struct {
		name string
		load func(string) error
		text string
		want string // after the file's path
	}{
		{"unknown key", loadServer, "fleet = \"a\"\n[broker]\n  listn = \"127.0.0.1:1\"\n", ":3:3: unknown key \"broker.listn\"; did you mean \"broker.listen\"?"},
		{"unknown table", loadServer, "[metrics]\nx = 1\n", ":1:2: unknown key \"metrics\"; the keys are fleet"},
		{"syntax", loadServer, "fleet = \"a\"\nlog_level \"info\"\n", ":2:11: "},
		{"wrong type", loadServer, "fleet = 3\n", ":1:9: fleet: Integer where text in quotes is expected"},
		{"number in quotes", loadServer, "limits.max_clients = \"3\"\n", ":1:22: limits.max_clients: String where a number, as int holds it, is expected"},
		{"number beyond its type", loadServer, "limits.max_clients = 99999999999999999999\n", ":1:22: limits.max_clients: Integer where a number, as int"},
		{"table where text is", loadServer, "fleet = {a = 1}\n", ":1:9: fleet: InlineTable where text"},
		{"table where text is, by its header", loadServer, "[fleet]\na = 1\n", ":1:2: fleet: a table where text in quotes is expected"},
		{"text where a table is", loadServer, "broker = \"a\"\n", ":1:10: broker: String where a table"},
		{"key twice", loadServer, "fleet = \"a\"\nfleet = \"b\"\n", ":2:1: fleet is in line 1 already"},
		{"table twice", loadServer, "[http]\n[broker]\n[http]\n", ":3:2: http is in line 1 already"},
		{"key of another line's table", loadServer, "http.listen = \"127.0.0.1:1\"\n[http]\n", ":2:2: http is in line 1 already"},
		{"key of an inline table", loadServer, "http = {}\nhttp.listen = \"127.0.0.1:1\"\n", ":2:1: http is in line 1 already"},
		{"unknown key in an inline table", loadServer, "http = {lisen = \"b\"}\n", ":1:9: unknown key \"http.lisen\"; did you mean"},
		{"unknown dotted key", loadServer, "[broker]\na.b.c = 1\n", ":2:1: unknown key \"broker.a.b.c\"; the keys are"},
		{"level", loadServer, "log_level = \"loud\"\n", ":1:13: "},
		{"fleet alphabet", loadServer, "# c\nfleet = \"North\"\n", ":2:1: fleet: \"North\" has 'N' at byte 1"},
		{"fleet empty", loadServer, "fleet = \"\"\n", ":1:1: fleet: empty"},
		{"address", loadServer, "[broker]\nlisten = \"1883\"\n", ":2:1: broker.listen: \"1883\" is not an address"},
		{"port", loadServer, "http.listen = \"127.0.0.1:99999\"\n", ":1:1: http.listen: \"99999\" is not a port"},
		{"not loopback", loadServer, "[http]\nlisten = \"0.0.0.0:8080\"\n", ":2:1: http.listen: \"0.0.0.0:8080\" is reachable from other machines"},
		{"no broker", loadServer, "[broker]\nlisten = \"\"\n", ":2:1: broker.listen: empty"},
		{"clients", loadServer, "limits = {max_clients = 0}\n", ":1:11: limits.max_clients: 0 is outside"},
		{"upload", loadServer, "[limits]\nmax_upload_bytes = 3\n", ":2:1: limits.max_upload_bytes: 3 is outside"},
		{"missing token", loadAgent, edit("token = \"secret-token\"\n", ""), ": token: missing"},
		{"device alphabet", loadAgent, edit("pump1", "pump 1"), ":2:1: device: \"pump 1\" has ' ' at byte 5"},
		{"device length", loadAgent, edit("pump1", strings.Repeat("a", 49)), ":2:1: device: 49 characters"},
		{"broker scheme", loadAgent, edit("tcp://", "http://"), ":3:1: broker: not a broker address"},
		{"broker port", loadAgent, edit(":1883", ""), ":3:1: broker: no port"},
		{"broker user", loadAgent, edit("127.0.0.1", "me:pw@127.0.0.1"), ":3:1: broker: carries a user name"},
		{"broker path", loadAgent, edit(":1883", ":1883/mqtt"), ":3:1: broker: has something after the port"},
		{"base64", loadAgent, edit("aGVsbG8=", "***"), ":6:8: not valid base64"},
		{"duration", loadAgent, goodAgent + "[limits]\ntrial = \"10\"\n", ":8:9: \"10\" is not a duration"},
		{"slowdown", loadAgent, goodAgent + "[limits]\nslowdown = 0.5\n", ":8:1: limits.slowdown: 0.5 is no factor"},
		{"slowdown that is no number", loadAgent, goodAgent + "[limits]\nslowdown = nan\n", ":8:1: limits.slowdown: NaN is no factor"},
		{"negative trial", loadAgent, goodAgent + "[limits]\ntrial = \"-1s\"\n", ":8:1: limits.trial: -1s is negative"},
		{"fallback", loadAgent, "fallback = \"half\"\n" + goodAgent, ":1:1: fallback: \"half\" is neither full nor never"},
		{"local address", loadAgent, goodAgent + "[local]\nlisten = \"1883\"\n", ":8:1: local.listen: \"1883\" is not an address"},
		{"local, open", loadAgent, goodAgent + "[local]\nlisten = \":1883\"\n", ":8:1: local.listen: \":1883\" is reachable from other machines, and there are no users"},
		{"local, plain", loadAgent, goodAgent + "[local]\nlisten = \":1883\"\nusers = {ann = \"" + strings.Repeat("0", 64) + "\"}\n", ":8:1: local.listen: \":1883\" is reachable from other machines, and there is no certificate"},
		{"local token", loadAgent, goodAgent + "[local]\nlisten = \"127.0.0.1:1883\"\n[local.users]\nann = \"secret-token\"\n", ":10:1: local.users.ann: not the SHA-256 of a token"},
		{"local user", loadAgent, goodAgent + "[local]\nlisten = \"127.0.0.1:1883\"\n[local.users]\nAnn = \"secret-token\"\n", ":10:1: local.users.Ann: \"Ann\" has 'A'"},
		{"local key", loadAgent, goodAgent + "[local]\nlisten = \"127.0.0.1:1883\"\ncert = \"c\"\n", ":9:1: local.cert: cert and key go together"},
		{"local without an address", loadAgent, goodAgent + "[local]\nplaintext = true\n", ": local.listen: missing"},
		{"home assistant", loadAgent, goodAgent + "[home_assistant]\nvia = \"lokal\"\n", ":8:1: home_assistant.via: \"lokal\" is neither"},
		{"home assistant nowhere", loadAgent, goodAgent + "[home_assistant]\nvia = \"local\"\n", ":8:1: home_assistant.via: local, and there is no"},
		{"home assistant's prefix", loadAgent, goodAgent + "[home_assistant]\nvia = \"broker\"\nprefix = \"a/#\"\n", ":9:1: home_assistant.prefix: \"a/#\" is no"},
		{"quota", loadAgent, goodAgent + "[limits]\nquota_bytes = 100\n", ":8:1: limits.quota_bytes: 100 is too small"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "x.toml", tt.text)
			err := tt.load(path)
			if err == nil || !strings.HasPrefix(err.Error(), path+tt.want) {
				t.Fatalf("error = %v, want prefix %s%s", err, path, tt.want)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("error %T is no *config.Error", err)
			}
			if strings.Contains(err.Error(), "secret-token") || strings.Contains(err.Error(), "me:pw") {
				t.Errorf("error repeats a secret: %v", err)
			}
		})
	}
}

func TestEveryUnknownKeyIsReported(t *testing.T) {
	_, err := LoadServer(write(t, "x.toml", "flet = \"a\"\n[http]\nlisen = \"b\"\n"))
	for _, want := range []string{`:1:1: unknown key "flet"; did you mean "fleet"?`, `:3:1: unknown key "http.lisen"; did you mean "http.listen"?`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want it to contain %s", err, want)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	if _, err := LoadAgent(filepath.Join(t.TempDir(), "agent.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadAgent(missing) = %v, want fs.ErrNotExist", err)
	}
	if _, err := LoadAgent(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("LoadAgent(folder) = %v, want it to say so", err)
	}
	if _, err := LoadAgent(write(t, "big.toml", strings.Repeat("#", MaxFile+1))); err == nil || !strings.Contains(err.Error(), "right file") {
		t.Errorf("LoadAgent(1 MiB of comment) = %v, want it refused", err)
	}
}

// TestEndlessFile: a device has no size to refuse it by.
func TestEndlessFile(t *testing.T) {
	const endless = "/dev/zero"
	if _, err := os.Stat(endless); err != nil {
		t.Skip(err)
	}
	_, err := LoadServer(endless)
	var mistake *Error
	if !errors.As(err, &mistake) || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("LoadServer(%s) = %v, want an Error about its size", endless, err)
	}
}
