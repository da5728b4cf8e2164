//! The structures of Parquet's footer and page headers, as far as the decoder reads them. See `parquet.thrift` of the
//! Parquet format.

use super::thrift::ThriftType::{self, Binary, Bool, Byte, Int, List, Long, Struct};

type Fields = [(i16, ThriftType)];

// Constants for the numbers of the footer.
pub(crate) const CHILDREN: u8 = 1;
pub(crate) const ELEMENT: u8 = 2;

pub const FILE: &Fields = &[
    (1, Int(0)),
    (2, List(ELEMENT, &Struct(SCHEMA_ELEMENT))),
    (3, Long(0)),
    (4, List(0, &Struct(ROW_GROUP))),
    (5, List(0, &Struct(&[(1, Binary), (2, Binary)]))),
    (6, Binary),
    (7, List(0, &Struct(&[(1, EMPTY), (2, EMPTY)]))),
];

const SCHEMA_ELEMENT: &Fields = &[
    (1, Int(0)),
    (2, Int(0)),
    (3, Int(0)),
    (4, Binary),
    (5, Int(CHILDREN)),
    (6, Int(0)),
    (7, Int(0)),
    (8, Int(0)),
    (9, Int(0)),
    (10, Struct(LOGICAL_TYPE)),
];

const EMPTY: ThriftType = Struct(&[]);
const UNIT: ThriftType = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);

const LOGICAL_TYPE: &Fields = &[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Int(0)), (2, Int(0))])),
    (6, EMPTY),
    (7, Struct(&[(1, Bool), (2, UNIT)])),
    (8, Struct(&[(1, Bool), (2, UNIT)])),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
];

const ROW_GROUP: &Fields = &[
    (1, List(0, &Struct(COLUMN_CHUNK))),
    (2, Long(0)),
    (3, Long(0)),
    (4, List(0, &Struct(&[(1, Int(0)), (2, Bool), (3, Bool)]))),
    (5, Long(0)),
    (6, Long(0)),
    (7, Int(0)),
];

const COLUMN_CHUNK: &Fields =
    &[(1, Binary), (2, Long(0)), (3, Struct(COLUMN)), (4, Long(0)), (5, Int(0)), (6, Long(0)), (7, Int(0))];

const COLUMN: &Fields = &[
    (1, Int(0)),
    (2, List(0, &Int(0))),
    (3, List(0, &Binary)),
    (4, Int(0)),
    (5, Long(0)),
    (6, Long(0)),
    (7, Long(0)),
    (9, Long(0)),
    (10, Long(0)),
    (11, Long(0)),
    (12, Struct(STATISTICS)),
    (14, Long(0)),
    (15, Int(0)),
];

const STATISTICS: &Fields =
    &[(1, Binary), (2, Binary), (3, Long(0)), (4, Long(0)), (5, Binary), (6, Binary), (7, Bool), (8, Bool)];

// Constants for the numbers of a page header.
pub(crate) const PAGE_TYPE: u8 = 1;
pub(crate) const UNCOMPRESSED: u8 = 2;
pub(crate) const COMPRESSED: u8 = 3;
pub(crate) const CHECKSUM: u8 = 4;
pub const VALUES: u8 = 5;
pub(crate) const ENCODING: u8 = 6;
pub(crate) const DICTIONARY_VALUES: u8 = 7;
pub(crate) const VALUES_V2: u8 = 8;
pub(crate) const NULLS_V2: u8 = 9;
pub(crate) const ENCODING_V2: u8 = 10;
pub(crate) const DEFINITIONS_V2: u8 = 11;
pub(crate) const REPETITIONS_V2: u8 = 12;

pub(crate) const PAGE_HEADER: &Fields = &[
    (1, Int(PAGE_TYPE)),
    (2, Int(UNCOMPRESSED)),
    (3, Int(COMPRESSED)),
    (4, Int(CHECKSUM)),
    (5, Struct(&[(1, Int(VALUES)), (2, Int(ENCODING)), (3, Int(0)), (4, Int(0)), (5, Struct(STATISTICS))])),
    (6, EMPTY),
    (7, Struct(&[(1, Int(DICTIONARY_VALUES)), (2, Int(0)), (3, Bool)])),
    (8, Struct(PAGE_V2)),
];

const PAGE_V2: &Fields = &[
    (1, Int(VALUES_V2)),
    (2, Int(NULLS_V2)),
    (3, Int(0)),
    (4, Int(ENCODING_V2)),
    (5, Int(DEFINITIONS_V2)),
    (6, Int(REPETITIONS_V2)),
    (7, Bool),
    (8, Struct(STATISTICS)),
];

pub(crate) const DATA_PAGE: i64 = 0;
pub(crate) const DICTIONARY_PAGE: i64 = 2;
pub(crate) const DATA_PAGE_V2: i64 = 3;

pub(crate) const DELTA_BINARY_PACKED: i64 = 5;
pub(crate) const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
pub(crate) const DELTA_BYTE_ARRAY: i64 = 7;
