package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// openFile opens a file argument for reading; "-" is stdin.
func (a *app) openFile(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, usagef("%s is a folder; name a file in it", path)
	}
	return f, nil
}

// upload turns a file argument into a part of a request.
func (a *app) upload(path string) api.File {
	return api.File{Name: filepath.Base(path), Open: func() (io.ReadCloser, error) { return a.openSteady(path) }}
}

// dataEndings are those of the files that are taken from a folder.
var dataEndings = []string{".csv", ".tsv", ".txt", ".lp", ".line", ".parquet"}

// dataSetPrefix is before the name of a data set that the control plane keeps.
const dataSetPrefix = "data:"

// dataFiles turns the arguments that name data into parts of a request, the files
// of a folder in the order of their names. A file is named by its path below the
// folder, which goes before it where there are several arguments; one that is an
// argument itself by its base, or by its path if two have the same.
func (a *app) dataFiles(args []string) ([]api.File, error) {
	var files []api.File
	bases := map[string]int{}
	for _, arg := range args {
		bases[filepath.Base(arg)]++
	}
	for _, arg := range args {
		if set, ok := strings.CutPrefix(arg, dataSetPrefix); ok {
			if len(args) > 1 {
				return nil, usagef("%s is a data set; give it alone", arg)
			}
			return []api.File{{Name: arg, Set: set}}, nil
		}
		info, err := os.Stat(arg)
		if arg != "-" && err == nil && info.IsDir() {
			inside, err := a.folderFiles(arg)
			if err != nil {
				return nil, err
			}
			for i := range inside {
				if len(args) > 1 {
					inside[i].Name = path.Join(filepath.ToSlash(filepath.Clean(arg)), inside[i].Name)
				}
			}
			files = append(files, inside...)
			continue
		}
		if err := a.checkReadable(arg); err != nil {
			return nil, err
		}
		f := a.upload(arg)
		if bases[f.Name] > 1 {
			f.Name = filepath.ToSlash(filepath.Clean(arg))
		}
		files = append(files, f)
	}
	names := map[string]bool{}
	for _, f := range files {
		if names[f.Name] {
			return nil, usagef("%s comes twice", f.Name)
		}
		names[f.Name] = true
	}
	return files, nil
}

// heldOutFiles is dataFiles with those that are held out behind.
func (a *app) heldOutFiles(args dataArgs) ([]api.File, error) {
	files, err := a.dataFiles(args.data)
	if err != nil {
		return nil, err
	}
	for _, held := range []struct {
		part string
		args []string
	}{{dataset.PartValidation, args.validation}, {dataset.PartTest, args.test}} {
		more, err := a.dataFiles(held.args)
		if err != nil {
			return nil, err
		}
		for _, f := range more {
			f.Part = held.part
			files = append(files, f)
		}
	}
	return files, nil
}

// folderFiles returns the data files of a folder and the folders in it, as Spark
// writes them or by hand: hidden files, and those that begin with _, hold no data.
func (a *app) folderFiles(folder string) ([]api.File, error) {
	var files []api.File
	var others []string
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != folder && strings.ContainsRune("._", rune(d.Name()[0])):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		inside, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		if inside = filepath.ToSlash(inside); !slices.Contains(dataEndings, strings.ToLower(path.Ext(strings.TrimSuffix(inside, ".gz")))) {
			others = append(others, inside)
			return nil
		}
		f := a.upload(name)
		f.Name = inside
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	endings := strings.Join(dataEndings, ", ")
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no file of %s ends in %s or those with .gz", errNoData, folder, endings)
	}
	if len(others) > 0 {
		a.notef("left out of %s, not ending in %s: %s", folder, endings, brief(strings.Join(others, ", ")))
	}
	return files, nil
}

// errNoData: a folder without a file of data.
var errNoData = errors.New("no data")

// checkReadable reports the first path that cannot be opened, before anything
// is sent.
func (a *app) checkReadable(paths ...string) error {
	for _, path := range paths {
		if path == "-" || path == "" {
			continue
		}
		f, err := a.openFile(path)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// An outFile is a file argument that is written completely or not at all.
// It is made before the work that fills it, so that an answer which comes only
// once, a token, is never lost to a folder that cannot be written.
type outFile struct {
	path string
	f    *os.File // the new file; nil: what w is
	w    io.Writer
	pipe io.Closer // w, where it is a pipe or the like
}

// createFile starts the file at path, "-" for stdout, with the given mode.
func (a *app) createFile(path string, mode fs.FileMode) (*outFile, error) {
	if path == "-" {
		return &outFile{path: path, w: a.stdout}, nil
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return nil, usagef("%s is a folder; name a file in it", path)
	case err == nil && !info.Mode().IsRegular(): // a pipe, say
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("write file: %w", err)
		}
		return &outFile{path: path, w: f, pipe: f}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("write file: %w", err)
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, fmt.Errorf("write file: %w", err)
	}
	return &outFile{path: path, f: f, w: f}, nil
}

func (o *outFile) Write(b []byte) (int, error) { return o.w.Write(b) }

// commit makes the file appear, synced.
func (o *outFile) commit() error {
	if o.pipe != nil {
		return o.pipe.Close()
	}
	if o.f == nil {
		return nil
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err := o.f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err := os.Rename(o.f.Name(), o.path); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	o.f = nil
	return nil
}

// discard removes what was written unless it was committed.
func (o *outFile) discard() {
	if o.f != nil {
		o.f.Close()
		os.Remove(o.f.Name())
		o.f = nil
	}
}
