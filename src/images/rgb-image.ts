/** Pictures in memory. */

/** A colour picture: 8 bits a channel, rows from the top. */
export interface RgbImage {
  width: number;
  height: number;
  /** [height, width, 3] */
  pixels: Uint8Array;
}

/** A picture of one channel, such as a mask. */
export interface GrayImage {
  width: number;
  height: number;
  /** [height, width] */
  pixels: Uint8Array;
}
