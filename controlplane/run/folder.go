package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// Files of a run's folder, and the one beside the folders.
const (
	recordFile     = "run.json"
	checkpointFile = "checkpoint"
	bestFile       = "best"
	lastFile       = "last"
)

// A folder holds runs as files. Names that begin with a dot are unfinished, or
// on their way out.
type folder string

func (f folder) path(elem ...string) string {
	return filepath.Join(append([]string{string(f)}, elem...)...)
}

// clean removes what a process that was killed left unfinished.
func (f folder) clean() error {
	ids, err := f.ids()
	if err != nil {
		return err
	}
	for _, dir := range append(ids, ".") {
		entries, err := os.ReadDir(f.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				if err := os.RemoveAll(f.path(dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ids returns the IDs of all runs, oldest first.
func (f folder) ids() ([]string, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && number(e.Name()) > 0 {
			ids = append(ids, e.Name())
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return number(a) - number(b) })
	return ids, nil
}

// number returns the N of MODEL-N, 0 if id is not of that form.
func number(id string) int {
	i := strings.LastIndexByte(id, '-')
	n, err := strconv.Atoi(id[i+1:])
	if i < 1 || err != nil || n < 1 {
		return 0
	}
	return n
}

// find returns an error that suggests another ID, unless there is such a run.
// It keeps every other name away from the file system.
func (f folder) find(id string) error {
	ids, err := f.ids()
	if err != nil || slices.Contains(ids, id) {
		return err
	}
	const most = 8
	hint := "there are no runs yet"
	switch meant := near.Match(id, ids); {
	case meant != "":
		hint = fmt.Sprintf("did you mean %q?", meant)
	case len(ids) > most:
		hint = "the latest are " + strings.Join(ids[len(ids)-most:], ", ")
	case len(ids) > 0:
		hint = "the runs are " + strings.Join(ids, ", ")
	}
	return fmt.Errorf("run %.120q: %w; %s", id, ErrNotFound, hint)
}

// create makes the folder of a new run of the model and sets its ID.
func (f folder) create(r *Run) error {
	ids, err := f.ids()
	if err != nil {
		return err
	}
	n, err := f.last()
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		n = max(n, number(ids[len(ids)-1]))
	}
	r.ID = r.Model + "-" + strconv.Itoa(n+1)
	if _, err := os.Stat(string(f)); errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(string(f)); err != nil {
			return err
		}
	}
	unfinished := f.path("." + r.ID)
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return err
	}
	b, err := encode(r)
	if err == nil {
		err = store.WriteFile(filepath.Join(unfinished, recordFile), b, 0o600)
	}
	if err == nil {
		err = store.Rename(unfinished, f.path(r.ID))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	return nil
}

// makeFolder makes an empty folder that survives a power cut.
func makeFolder(path string) error {
	unfinished, err := os.MkdirTemp(filepath.Dir(path), ".new-*") // mode 0700
	if err != nil {
		return err
	}
	return store.Rename(unfinished, path)
}

func encode(r *Run) ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// write replaces what is kept of r.
func (f folder) write(r *Run) error {
	b, err := encode(r)
	if err != nil {
		return err
	}
	return store.WriteFile(f.path(r.ID, recordFile), b, 0o600)
}

// read returns the run as it was written last.
func (f folder) read(id string) (Run, error) {
	if err := f.find(id); err != nil {
		return Run{}, err
	}
	var r Run
	b, err := os.ReadFile(f.path(id, recordFile))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.ID != id {
		err = fmt.Errorf("it is of run %.60q", r.ID)
	}
	if err != nil {
		return Run{ID: id, State: Failed, Reason: fmt.Sprintf("its record is damaged: %v", err)}, nil
	}
	return r, nil
}

// writeCheckpoint replaces the latest checkpoint, and the best one if this is it.
func (f folder) writeCheckpoint(id string, b []byte, best bool) error {
	if err := store.WriteFile(f.path(id, checkpointFile), b, 0o600); err != nil || !best {
		return err
	}
	return store.WriteFile(f.path(id, bestFile), b, 0o600)
}

// checkpoint returns the latest checkpoint that is whole, nil if there is none.
// damaged is why a later one cannot be used.
func (f folder) checkpoint(id string) (c *bptt.Checkpoint, damaged error) {
	for _, name := range []string{checkpointFile, bestFile} {
		b, err := os.ReadFile(f.path(id, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c := new(bptt.Checkpoint)
		if err == nil {
			err = c.UnmarshalBinary(b)
		}
		if err == nil {
			return c, damaged
		}
		damaged = errors.Join(damaged, fmt.Errorf("%s: %w", name, err))
	}
	return nil, damaged
}

// dropCheckpoints removes what only a run that goes on needs.
func (f folder) dropCheckpoints(id string) error {
	for _, name := range []string{checkpointFile, bestFile} {
		if err := os.Remove(f.path(id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// remove removes a run, whose number is not given again.
func (f folder) remove(id string) error {
	last, err := f.last()
	if err != nil {
		return err
	}
	if n := number(id); n > last {
		if err := store.WriteFile(f.path(lastFile), []byte(strconv.Itoa(n)+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := store.Rename(f.path(id), f.path("."+id)); err != nil {
		return err
	}
	return os.RemoveAll(f.path("." + id))
}

// last returns the highest number among the runs that were removed, 0 if none was.
func (f folder) last() (int, error) {
	b, err := os.ReadFile(f.path(lastFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f.path(lastFile), err)
	}
	return n, nil
}
