package dataset

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"iter"
	"path"
	"strings"
)

// A File is one file of a data set, read once from its beginning to its end.
type File struct {
	// Name is a path with slashes. It goes into messages, names the group of the
	// rows where nothing else does, and each of its folders that is named
	// KEY=VALUE, as Hive and Spark write them, is a column. It may be empty.
	Name string
	io.Reader
	// Part that the rows are held out for: PartValidation or PartTest. Empty: the
	// split of the data decides.
	Part string
}

// Parts that a file may be held out for, and what the rest is called.
const (
	PartTraining   = "training"
	PartValidation = "validation"
	PartTest       = "test"
)

// Files are the files of a data set, one after the other. A File is read before
// the next one is asked for.
type Files = iter.Seq2[File, error]

// One is a data set of one file that has no name.
func One(r io.Reader) Files {
	return func(yield func(File, error) bool) { yield(File{Reader: r}, nil) }
}

// partitions returns the KEY=VALUE folders of the name.
func (f File) partitions() (keys []string, values []cell) {
	dir, _ := path.Split(f.Name)
	for folder := range strings.SplitSeq(dir, "/") {
		key, value, ok := strings.Cut(folder, "=")
		if !ok || key == "" {
			continue
		}
		c := textCell([]byte(value))
		if value == "__HIVE_DEFAULT_PARTITION__" { // how Hive and Spark write a null
			c = cell{}
		}
		keys, values = append(keys, key), append(values, c)
	}
	return keys, values
}

// group is the name of the group that the rows of a file are, without its
// endings. It is empty for what Hadoop and Spark write: part-00000 is a piece of
// a data set, and where one ends says nothing.
func (f File) group() string {
	dir, base := path.Split(f.Name)
	if strings.HasPrefix(base, "part-") {
		return ""
	}
	for {
		ext := path.Ext(base)
		switch strings.ToLower(ext) {
		case ".csv", ".tsv", ".txt", ".gz", ".lp", ".line", ".parquet":
			base = strings.TrimSuffix(base, ext)
			continue
		}
		return dir + base
	}
}

// A digest is the SHA-256 of a data set: of one file that of its bytes, of
// several that of the text which sha256sum prints for them, the names of files that
// are held out beginning with their part and a colon.
type digest struct {
	list  hash.Hash
	files int
	last  [32]byte
	seen  map[string]string // names, by digest and columns of folders
	parts map[string]*digest
}

// add adds a file. It returns ErrLeak for one that was there under another name.
func (d *digest) add(f File, sum []byte) error {
	if d.list == nil {
		d.list, d.seen, d.parts = sha256.New(), map[string]string{}, map[string]*digest{}
	}
	keys, values := f.partitions()
	id := fmt.Sprintf("%x", sum)
	for i, k := range keys { // partitions may well hold the same rows
		id += fmt.Sprintf("/%s=%s", k, values[i].appendTo(nil))
	}
	if before, twice := d.seen[id]; twice {
		return fmt.Errorf("%w: it is %s once more, with the same SHA-256; leave one out", ErrLeak, printable(before))
	}
	d.seen[id] = f.Name
	part := cmp.Or(f.Part, PartTraining)
	if d.parts[part] == nil {
		d.parts[part] = &digest{list: sha256.New()}
	}
	d.parts[part].append(f.Name, sum)
	name := f.Name
	if f.Part != "" {
		name = f.Part + ":" + name
	}
	d.append(name, sum)
	return nil
}

func (d *digest) append(name string, sum []byte) {
	fmt.Fprintf(d.list, "%x  %s\n", sum, name)
	d.files++
	copy(d.last[:], sum)
}

func (d *digest) sum() [32]byte {
	if d.files == 1 {
		return d.last
	}
	return [32]byte(d.list.Sum(nil))
}

// byPart returns the digest of the files of each part, nil if none is held out.
func (d *digest) byPart() map[string]string {
	if len(d.parts) == 1 && d.parts[PartTraining] != nil {
		return nil
	}
	out := map[string]string{}
	for part, p := range d.parts {
		sum := p.sum()
		out[part] = hex.EncodeToString(sum[:])
	}
	return out
}
