package main

import (
	"github.com/spf13/pflag"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// addDataFlag adds --data.
func addDataFlag(f *pflag.FlagSet, data *[]string) {
	f.StringArrayVar(data, "data", nil, "`FILE` (CSV or InfluxDB line protocol, as .gz too, or Parquet), folder of such files, or - for stdin; may be given again")
}

// dataArgs name files of data, and those that are held out.
type dataArgs struct{ data, validation, test []string }

// addHeldOut adds the flags of files that are held out.
func (d *dataArgs) addHeldOut(f *pflag.FlagSet) {
	f.StringArrayVar(&d.validation, "validation-file", nil, "`FILE` or folder that is the validation part; may be given again")
	f.StringArrayVar(&d.test, "test", nil, "`FILE` or folder that is the test part; may be given again")
}

// addReadFlags adds flags that say how files are written.
func addReadFlags(f *pflag.FlagSet, o *dataset.Options) {
	f.StringVar(&o.Format, "format", "", "of the files: csv, line or parquet")
	f.StringVar(&o.Separator, "separator", "", "of CSV: one `character`, or tab")
	f.StringVar(&o.Decimal, "decimal", "", "decimal `point` of numbers, . or ,")
	f.StringVar(&o.TimeFormat, "time-format", "", "of the time column: s, ms, us or ns for an epoch, or such as '%d.%m.%Y %H:%M'")
	f.StringSliceVar(&o.Null, "null", nil, "further `spellings` of a missing value, such as -999")
	f.StringSliceVar(&o.Types, "type", nil, "`COLUMN=TYPE` of a column that is detected wrongly: number, text or time")
	f.StringSliceVar(&o.Text, "text", nil, "`columns` that hold text, whatever it looks like")
	f.StringVar(&o.Measurement, "measurement", "", "of line protocol: `name` of the one to read, where there are several")
}

// addCleanFlags adds flags that say what is done about what is wrong in the rows.
func addCleanFlags(f *pflag.FlagSet, o *dataset.Options) {
	f.StringVar(&o.Missing, "missing", "", "missing values: ffill, interpolate, zero or drop (default: ffill, and an error in a target)")
	f.IntVar(&o.FillLimit, "fill-limit", 0, "of ffill and interpolate: most `rows` in a row that are filled; those beyond are dropped")
	f.StringVar(&o.Order, "order", "", "rows that are not in time order: refuse or sort (default refuse)")
	f.StringVar(&o.Duplicates, "duplicates", "", "rows with one time: refuse, first, last or mean (default refuse)")
	f.StringVar(&o.MaxGap, "max-gap", "", "longest `time` between rows that belong together, such as 90s or 3 (steps)")
	f.StringVar(&o.Resample, "resample", "", "make rows this far apart in `time`, such as 10m or 5 (steps)")
	f.StringVar(&o.ResampleBy, "resample-by", "", "mean, min, max, first, last or sum (default mean)")
	f.StringArrayVar(&o.Convert, "convert", nil, "change the unit of a column, `COLUMN=A*x+B`; may be given again")
	f.StringArrayVar(&o.ColumnUnits, "column-unit", nil, "unit that the model's schema names, `COLUMN=UNIT`; may be given again")
}
