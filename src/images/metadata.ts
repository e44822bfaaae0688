/**
 * What a picture's file says about its making, in the three places where other programs look:
 *
 * - the text "parameters": a PNG text field, in JPEG and WebP Exif's UserComment, as most image generators write it;
 * - the IPTC digital source type, in an XMP packet: that a trained algorithm made the picture;
 * - in the same packet Easel's own record, for `easel replay`.
 *
 * Follows the PNG specification (11.3.3.4), Exif 2.32 (4.6), the XMP specification part 3 and Google's WebP container.
 */
import { crc32 } from "node:zlib";
import sharp from "sharp";

export const imageFormats = ["png", "jpeg", "webp"] as const;
export type ImageFormat = (typeof imageFormats)[number];

/** Terms of IPTC's vocabulary: drawn by a model; a given picture of which a model has repainted a part. */
export type DigitalSourceType = "trainedAlgorithmicMedia" | "compositeWithTrainedAlgorithmicMedia";

export interface PictureMetadata {
  /** What people and other programs read. */
  parameters?: string | undefined;
  /** Easel's own record: one JSON text. */
  record?: string | undefined;
  sourceType?: DigitalSourceType | undefined;
}

/** One JPEG segment holds no more. */
const maxJpegSegmentBytes = 65_533;
const sourceTypes = "http://cv.iptc.org/newscodes/digitalsourcetype/";
const recordNamespace = "urn:easel:record:1";
const jpegXmpSignature = "http://ns.adobe.com/xap/1.0/\0";

/** Whether the metadata fits into a file of that format; only JPEG's segments are small. */
export function metadataFits(metadata: PictureMetadata, format: ImageFormat): boolean {
  if (format !== "jpeg") return true;
  const exifBytes = metadata.parameters === undefined ? 0 : exif(metadata.parameters).length + 6;
  return Math.max(exifBytes, xmpPacket(metadata).length + jpegXmpSignature.length) <= maxJpegSegmentBytes;
}

/** `file` (as sharp wrote it, without metadata) with `metadata`. Only what `metadataFits` fits a JPEG. */
export function embedMetadata(file: Buffer, format: ImageFormat, metadata: PictureMetadata): Buffer {
  switch (format) {
    case "png":
      return embedInPng(file, metadata);
    case "jpeg":
      return embedInJpeg(file, metadata);
    case "webp":
      return embedInWebp(file, metadata);
  }
}

/** Easel's record and the source type of a picture's file, whatever program wrote them; undefined where there is none. */
export async function readMetadata(file: Uint8Array): Promise<PictureMetadata> {
  const { xmp } = await sharp(file).metadata();
  if (xmp === undefined) return {};
  const packet = xmp.toString("utf8");
  const record = packet.includes(recordNamespace) ? /<easel:record>([^<]*)/.exec(packet)?.[1] : undefined;
  const sourceType = /digitalsourcetype\/((?:t|compositeWithT)rainedAlgorithmicMedia)\b/.exec(packet)?.[1];
  return {
    record: record === undefined ? undefined : unescapeXml(record),
    sourceType: sourceType as DigitalSourceType | undefined,
  };
}

function embedInPng(file: Buffer, metadata: PictureMetadata): Buffer {
  // The signature (8 bytes) and the IHDR chunk (4 length + 4 type + 13 data + 4 checksum) come first in every PNG.
  const headEnd = 8 + 25;
  const { parameters } = metadata;
  const chunks = [
    ...(parameters === undefined ? [] : [pngText("parameters", Buffer.from(parameters))]),
    pngText("XML:com.adobe.xmp", xmpPacket(metadata)),
  ];
  return Buffer.concat([file.subarray(0, headEnd), ...chunks, file.subarray(headEnd)]);
}

/** An uncompressed iTXt chunk without language: any Unicode survives in it. */
function pngText(keyword: string, text: Buffer): Buffer {
  const separators = Buffer.from([0, 0, 0, 0, 0]); // end of keyword, not compressed, method 0, no language, no translation
  const body = Buffer.concat([Buffer.from("iTXt"), Buffer.from(keyword, "latin1"), separators, text]);
  return Buffer.concat([uint32(body.length - 4), body, uint32(crc32(body))]);
}

function embedInJpeg(file: Buffer, metadata: PictureMetadata): Buffer {
  // Behind the start marker, and behind the JFIF header where there is one, which wants to be first.
  const headEnd = file.readUInt16BE(2) === 0xffe0 ? 4 + file.readUInt16BE(4) : 2;
  const { parameters } = metadata;
  const segments = [
    ...(parameters === undefined ? [] : [app1(Buffer.concat([Buffer.from("Exif\0\0"), exif(parameters)]))]),
    app1(Buffer.concat([Buffer.from(jpegXmpSignature), xmpPacket(metadata)])),
  ];
  return Buffer.concat([file.subarray(0, headEnd), ...segments, file.subarray(headEnd)]);
}

function app1(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0xff, 0xe1]), uint16(data.length + 2), data]);
}

function embedInWebp(file: Buffer, metadata: PictureMetadata): Buffer {
  const { parameters } = metadata;
  const { width, height } = webpSize(file);
  const flags = { exif: 0x08, xmp: 0x04 };
  const header = Buffer.alloc(10);
  header[0] = flags.xmp | (parameters === undefined ? 0 : flags.exif);
  header.writeUIntLE(width - 1, 4, 3);
  header.writeUIntLE(height - 1, 7, 3);
  const chunks = Buffer.concat([
    Buffer.from("WEBP"),
    riffChunk("VP8X", header),
    file.subarray(12),
    ...(parameters === undefined ? [] : [riffChunk("EXIF", exif(parameters))]),
    riffChunk("XMP ", xmpPacket(metadata)),
  ]);
  return riffChunk("RIFF", chunks);
}

/** The size in the frame header of a lossy WebP (RFC 6386, 9.1), which follows RIFF's 12 and the chunk's 8 bytes. */
function webpSize(file: Buffer): { width: number; height: number } {
  return { width: file.readUInt16LE(26) & 0x3fff, height: file.readUInt16LE(28) & 0x3fff };
}

function riffChunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(data.length);
  return Buffer.concat([Buffer.from(type), length, data, Buffer.alloc(data.length % 2)]);
}

/** A TIFF block with one field: UserComment, in the Exif directory, in UTF-16. */
function exif(comment: string): Buffer {
  const text = Buffer.concat([Buffer.from("UNICODE\0"), Buffer.from(comment, "utf16le").swap16()]);
  const directory = (tag: number, type: number, count: number, value: number) =>
    Buffer.concat([uint16(1), uint16(tag), uint16(type), uint32(count), uint32(value), uint32(0)]);
  const [long, undefinedBytes] = [4, 7];
  return Buffer.concat([
    Buffer.from("MM\0*"),
    uint32(8), // where the first directory is
    directory(0x8769, long, 1, 26),
    directory(0x9286, undefinedBytes, text.length, 44),
    text,
  ]);
}

function xmpPacket({ record, sourceType }: PictureMetadata): Buffer {
  const source =
    sourceType === undefined
      ? ""
      : `\n<Iptc4xmpExt:DigitalSourceType>${sourceTypes}${sourceType}</Iptc4xmpExt:DigitalSourceType>`;
  const own = record === undefined ? "" : `\n<easel:record>${escapeXml(record)}</easel:record>`;
  return Buffer.from(
    `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" \
xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:easel="${recordNamespace}">
<xmp:CreatorTool>Easel</xmp:CreatorTool>${source}${own}
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>`,
  );
}

/** JSON as XML text: what XML cannot hold becomes JSON's own \u escapes, which mean the same. */
function escapeXml(json: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  return json
    .replaceAll(/[\u007f-\u009f\ufffe\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .replaceAll(/[&<>]/g, (char) => entities[char]!);
}

function unescapeXml(text: string): string {
  const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replaceAll(/&(amp|lt|gt|quot|apos);/g, (_, name: string) => characters[name]!);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
